package secret

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// VaultKeySize is the size of the key that seals the vault of a device.
const VaultKeySize = 32

// ErrVaultKey says that the key of a vault is there but damaged. It is left as
// it is: whoever replaced it would lose the vault.
var ErrVaultKey = errors.New("vault key is damaged")

// LoadVaultKey reads the key file. The error wraps fs.ErrNotExist if there is
// none.
func LoadVaultKey(name string) (Secret, error) {
	f, err := os.Open(name)
	if err != nil {
		return Secret{}, fmt.Errorf("load vault key: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return Secret{}, fmt.Errorf("load vault key: %w", err)
	}
	if err := checkMode(name, info); err != nil {
		return Secret{}, fmt.Errorf("load vault key: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, VaultKeySize+1))
	defer func() { clear(b) }()
	if err != nil {
		return Secret{}, fmt.Errorf("load vault key: %w", err)
	}
	if len(b) != VaultKeySize {
		return Secret{}, fmt.Errorf("%w: %s has %d octets instead of %d; restore it from a copy",
			ErrVaultKey, name, info.Size(), VaultKeySize)
	}
	return New(b), nil
}

// EnsureVaultKey returns the key in a file, and makes both if there is no
// file. An existing file is never written to; of several callers at once one
// makes the key and all get it. created says that this call made it.
func EnsureVaultKey(name string) (key Secret, created bool, err error) {
	key, err = LoadVaultKey(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if err := privateDir(filepath.Dir(name)); err != nil {
		return Secret{}, false, fmt.Errorf("make vault key: %w", err)
	}
	b := make([]byte, VaultKeySize)
	defer clear(b)
	if _, err := rand.Read(b); err != nil {
		return Secret{}, false, fmt.Errorf("make vault key: %w", err)
	}
	if err := create(name, b); err != nil {
		if errors.Is(err, fs.ErrExist) { // someone else was faster
			key, err := LoadVaultKey(name)
			return key, false, err
		}
		return Secret{}, false, fmt.Errorf("make vault key: %w", err)
	}
	return New(b), true, nil
}

// privateDir makes a folder for its owner alone, and refuses one that is open
// to others.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the folder %s is open to others (mode %04o); run chmod 700 on it", dir, info.Mode().Perm())
	}
	return nil
}

// create writes a file that does not exist yet, all of it or nothing: a link
// to a finished file either comes into being or fails because the name is
// taken.
func create(name string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".vault-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// replace writes a file in one step: afterwards the name holds the old content
// or the new one, whole.
func replace(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".vault-key-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

// readSmall reads a file of the owner's alone of at most limit octets; a longer
// one is cut after limit+1.
func readSmall(name string, limit int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkMode(name, info); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, int64(limit)+1))
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
