package secret

import (
	"errors"
	"fmt"
)

// ChangeVaultKeySource moves the key of a data folder, or seals it under a new
// passphrase where both sources are VaultKeyPassphrase. The key itself stays
// the same, so nothing is sealed anew; who may have seen the key needs a new
// set-up instead. The new place is written and read back before the marker
// names it, and only then the old place is emptied; calling it again after a
// crash finishes the work. Two calls at once for one folder are not supported.
//
// A move to VaultKeyCredential needs the credential to hold the key already.
func ChangeVaultKeySource(from, to VaultKeyOptions) error {
	if err := changeVaultKeySource(from, to); err != nil {
		return fmt.Errorf("move vault key from %s to %s: %w", from.Source, to.Source, err)
	}
	return nil
}

func changeVaultKeySource(from, to VaultKeyOptions) error {
	if from.Dir != to.Dir {
		return errors.New("the sources name different folders")
	}
	old, err := from.keeper()
	if err != nil {
		return err
	}
	next, err := to.keeper()
	if err != nil {
		return err
	}
	m, err := findMarker(from.Dir)
	if err != nil {
		return err
	}
	if m.Source == to.Source && from.Source != to.Source { // done before, maybe not to the end
		key, err := openKnown(to, next, m)
		if err != nil {
			return err
		}
		return old.remove(m.ID, key)
	}
	key, err := openKnown(from, old, m)
	if err != nil {
		return err
	}
	if from.Source == to.Source && to.Source != VaultKeyPassphrase {
		return nil
	}
	if m.unchecked { // with two keys in the folder something has to say which counts
		m.Check = newCheck(key, m.ID)
		if err := m.create(from.Dir); err != nil {
			return err
		}
	}
	if err := next.keep(m.ID, key); err != nil {
		return err
	}
	m.Source = to.Source
	if err := m.replace(from.Dir); err != nil {
		return err
	}
	if from.Source == to.Source {
		return nil
	}
	return old.remove(m.ID, key)
}
