package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	keyFileName    = "vault.key"
	sealedFileName = "vault.sealed"
)

// keeper is one source of vault keys, for one data folder.
type keeper interface {
	// make stores a new key and returns it as it was read back. The error wraps
	// fs.ErrExist if there is one; it is never written over. For a source that
	// is not ours to write to, it is load.
	make(id vaultID) (Secret, error)
	// load returns the key.
	load(id vaultID) (Secret, error)
	// keep stores a key that exists and checks what it stored. What the place
	// holds of another vault is an error and stays.
	keep(id vaultID, key Secret) error
	// forget takes back a make whose vault did not come into being: what would
	// stay behind for ever is removed, what counts by itself is not.
	forget(id vaultID) error
	// remove removes the key, if it is there and is this one.
	remove(id vaultID, key Secret) error
	// where names the place, for errors.
	where(id vaultID) string
}

func (o VaultKeyOptions) keeper() (keeper, error) {
	if o.Dir == "" {
		return nil, errors.New("no data folder")
	}
	switch o.Source {
	case VaultKeyFile:
		return fileKeeper{filepath.Join(o.Dir, keyFileName)}, nil
	case VaultKeyPassphrase:
		if o.Passphrase == nil {
			return nil, fmt.Errorf("%w: nothing to ask for the passphrase", ErrVaultKeyUnavailable)
		}
		return passphraseKeeper{filepath.Join(o.Dir, sealedFileName), o.Passphrase}, nil
	case VaultKeyKeyring:
		return keyringKeeper{timeout: o.KeyringTimeout}, nil
	case VaultKeyCredential:
		return credentialKeeper{name: o.CredentialName}, nil
	}
	return nil, fmt.Errorf("no such source; known are %s, %s, %s and %s",
		VaultKeyFile, VaultKeyKeyring, VaultKeyPassphrase, VaultKeyCredential)
}

// fileKeeper keeps the key as the 32 octets of a file.
type fileKeeper struct{ name string }

func (f fileKeeper) make(vaultID) (Secret, error) {
	key, created, err := EnsureVaultKey(f.name)
	if err == nil && !created {
		err = fs.ErrExist
	}
	if err != nil {
		return Secret{}, err
	}
	return key, nil
}

func (f fileKeeper) load(vaultID) (Secret, error) {
	key, err := LoadVaultKey(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return Secret{}, fmt.Errorf("%w: %s is missing; restore it from a copy", ErrNoVaultKey, f.name)
	}
	return key, err
}

func (f fileKeeper) keep(_ vaultID, key Secret) error {
	err := create(f.name, key.Reveal())
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	have, err := LoadVaultKey(f.name)
	if err == nil && !have.Equal(key) {
		err = fmt.Errorf("%w: %s is there and holds another key; move it away", ErrVaultKeyWrong, f.name)
	}
	return err
}

func (fileKeeper) forget(vaultID) error { return nil }

func (f fileKeeper) remove(_ vaultID, key Secret) error {
	have, err := LoadVaultKey(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !have.Equal(key) {
		return fmt.Errorf("%s holds another key and was left", f.name)
	}
	return removeFile(f.name)
}

func (f fileKeeper) where(vaultID) string { return f.name }

func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(name))
}
