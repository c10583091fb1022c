package secret

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/zalando/go-keyring"
)

// keyringService is the name under which the system's keyring lists our
// entries; each is further named by the id of its vault.
const keyringService = "CloudMLS Gateway"

// keyringKeeper keeps the key in the keyring of the user's session.
type keyringKeeper struct{ timeout time.Duration }

func keyringEntry(id vaultID) string { return "vault " + hex.EncodeToString(id[:]) }

func (k keyringKeeper) make(id vaultID) (Secret, error) {
	key, err := newVaultKey()
	if err != nil {
		return Secret{}, err
	}
	return key, k.keep(id, key)
}

func (k keyringKeeper) keep(id vaultID, key Secret) error {
	_, err := k.ask(func() (string, error) {
		return "", keyring.Set(keyringService, keyringEntry(id), base64.StdEncoding.EncodeToString(key.Reveal()))
	})
	if err != nil {
		return k.explain(err)
	}
	again, err := k.load(id)
	if err == nil && !again.Equal(key) {
		err = fmt.Errorf("%w: the keyring does not give back what it was given", ErrVaultKey)
	}
	return err
}

func (k keyringKeeper) load(id vaultID) (Secret, error) {
	text, err := k.ask(func() (string, error) { return keyring.Get(keyringService, keyringEntry(id)) })
	if errors.Is(err, keyring.ErrNotFound) {
		return Secret{}, fmt.Errorf("%w: the keyring of this session has no %s; sign in as the user who set this up, or restore the keyring from a copy",
			ErrNoVaultKey, k.where(id))
	}
	if err != nil {
		return Secret{}, k.explain(err)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	defer func() { clear(b) }()
	if err != nil || len(b) != VaultKeySize {
		return Secret{}, fmt.Errorf("%w: %s of the keyring is not a key; restore the keyring from a copy", ErrVaultKey, k.where(id))
	}
	return New(b), nil
}

// forget removes the entry of a vault that did not come into being: its random
// name was never written down.
func (k keyringKeeper) forget(id vaultID) error {
	_, err := k.ask(func() (string, error) { return "", keyring.Delete(keyringService, keyringEntry(id)) })
	if err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return k.explain(err)
	}
	return nil
}

func (k keyringKeeper) remove(id vaultID, key Secret) error {
	have, err := k.load(id)
	if errors.Is(err, ErrNoVaultKey) {
		return nil
	}
	if err != nil {
		return err
	}
	if !have.Equal(key) {
		return fmt.Errorf("%s of the keyring holds another key and was left", k.where(id))
	}
	return k.forget(id)
}

func (keyringKeeper) where(id vaultID) string {
	return fmt.Sprintf("entry %q of %q", keyringEntry(id), keyringService)
}

// explain says what to do about a keyring that does not answer.
func (keyringKeeper) explain(err error) error {
	return fmt.Errorf("%w: the keyring is locked or absent (%w); unlock it, or on a machine without one keep the key under a passphrase or as a systemd credential",
		ErrVaultKeyUnavailable, err)
}

// ask calls the keyring, which may wait for its owner without end: a prompt that
// nobody sees must not hang a service. What it answers later is dropped.
func (k keyringKeeper) ask(call func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	limit := k.timeout
	if limit == 0 {
		limit = DefaultKeyringTimeout
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	answers := make(chan answer, 1)
	go func() {
		text, err := call()
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-timer.C:
		return "", fmt.Errorf("no answer within %v", limit)
	}
}
