// Package vault keeps a person's secrets in one sealed file: passwords for
// providers, hashes of the passwords of mail clients.
//
// The file is replaced as a whole, so a crash leaves the old one or the new
// one. Several processes may have it open: writers take turns by a lock file
// beside it, readers see what others wrote at their next call. A file that does
// not open is an error and stays as it is; nothing but [Vault.Update] and the
// calls made of it ever writes.
//
// Whoever can write to the folder can put an older file in place of the newer:
// that is not noticed.
package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/cloudmls/gateway/internal/secret"
)

var (
	// ErrKey says that the vault was sealed under another key.
	ErrKey = errors.New("the key is not that of the vault")
	// ErrDamaged says that the file is not what was written.
	ErrDamaged = errors.New("the vault is damaged")
	// ErrGone says that the file was there and is not any more.
	ErrGone = errors.New("the vault is gone")
)

// Vault is an open vault. It is safe for concurrent use, and for use by several
// processes at once.
type Vault struct {
	dir, name string
	key       secret.Secret

	mu    sync.Mutex
	state *state // as last read
}

// state is the content of one file. It is not changed once made.
type state struct {
	id      fileID // zero: there is no file
	secrets map[string][]byte
}

// Open returns the vault of a file; without the file it is empty, and the file
// is made by the first write. The key has secret.VaultKeySize octets. The error
// wraps ErrKey or ErrDamaged where that is the reason.
func Open(file string, key secret.Secret) (*Vault, error) {
	if len(key.Reveal()) != secret.VaultKeySize {
		return nil, fmt.Errorf("open vault: a key of %d octets", len(key.Reveal()))
	}
	// A copy: if the caller wipes its own, nothing is sealed under an empty key.
	v := &Vault{dir: filepath.Dir(file), name: filepath.Base(file), key: secret.New(key.Reveal()), state: &state{}}
	if _, err := v.current(); err != nil {
		return nil, err
	}
	return v, nil
}

// Get returns a copy of the secret of a name, and whether there is one.
func (v *Vault) Get(name string) (secret.Secret, bool, error) {
	s, err := v.current()
	if err != nil {
		return secret.Secret{}, false, err
	}
	b, ok := s.secrets[name]
	if !ok {
		return secret.Secret{}, false, nil
	}
	return secret.New(b), true, nil
}

// Names returns the names that start with prefix, sorted.
func (v *Vault) Names(prefix string) ([]string, error) {
	s, err := v.current()
	if err != nil {
		return nil, err
	}
	return names(s.secrets, prefix), nil
}

// Set stores a secret. When it returns without an error the secret is on disk.
func (v *Vault) Set(name string, value secret.Secret) error {
	return v.Update(func(tx *Tx) error { return tx.Set(name, value) })
}

// Delete removes a secret and reports whether there was one.
func (v *Vault) Delete(name string) (bool, error) {
	deleted := false
	err := v.Update(func(tx *Tx) error {
		deleted = tx.Delete(name)
		return nil
	})
	return deleted && err == nil, err
}

// Update makes several changes in one step: all of them are on disk when it
// returns nil, none of them after an error of change or of writing (after one of
// syncing the folder they may be). Updates of all processes happen one after the
// other. change must not call Update, Set or Delete of the vault.
func (v *Vault) Update(change func(tx *Tx) error) (err error) {
	root, err := os.OpenRoot(v.dir)
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	defer func() { _ = root.Close() }() // no file of it is written any more
	unlock, err := v.lock(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	before, err := v.current()
	if err != nil {
		return err
	}
	tx := newTx(before.secrets)
	if err := change(tx); err != nil {
		return err
	}
	if !tx.changed {
		return nil
	}
	return v.write(root, tx.secrets)
}

// current returns the content of the file as it is now. The file is read whole
// only if its id, a random value in its first octets, is another than before.
func (v *Vault) current() (*state, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	file := filepath.Join(v.dir, v.name)
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		if v.state.id != (fileID{}) {
			return nil, fmt.Errorf("%w: %s; restore it from a copy", ErrGone, file)
		}
		return v.state, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read vault: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read vault: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read vault: %s is open to others (mode %04o); run chmod 600 on it", file, info.Mode().Perm())
	}
	head := make([]byte, headSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, damaged(file, errors.New("it is too short"))
	}
	id, err := parseHead(head)
	if err != nil {
		return nil, damaged(file, err)
	}
	if id == v.state.id {
		return v.state, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(MaxFile+1-headSize)))
	if err != nil {
		return nil, fmt.Errorf("read vault: %w", err)
	}
	secrets, err := open(v.key, append(head, b...))
	if errors.Is(err, ErrKey) {
		return nil, fmt.Errorf("%w: %s; give the key that it was made with", ErrKey, file)
	}
	if err != nil {
		return nil, damaged(file, err)
	}
	v.state = &state{id: id, secrets: secrets}
	return v.state, nil
}

func damaged(file string, reason error) error {
	return fmt.Errorf("%w: %s: %w; restore it from a copy", ErrDamaged, file, reason)
}
