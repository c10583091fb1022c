package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// lock waits until no other process, and no other call of this one, writes. The
// lock file stays: removing it would let two writers hold two files of a name.
// The system frees the lock of a process that dies.
func (v *Vault) lock(root *os.Root) (unlock func() error, err error) {
	info, err := root.Stat(".")
	if err != nil {
		return nil, fmt.Errorf("lock vault: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("lock vault: the folder %s is open to others (mode %04o); run chmod 700 on it", v.dir, info.Mode().Perm())
	}
	f, err := root.OpenFile(v.name+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock vault: %w", err)
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock vault: %w", err), f.Close())
	}
	return f.Close, nil // which frees the lock
}

// write replaces the file. The caller holds the lock.
func (v *Vault) write(root *os.Root, secrets map[string][]byte) error {
	b, id, err := seal(v.key, secrets)
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	if err := replace(root, v.name, b); err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = &state{id: id, secrets: secrets}
	return nil
}

// replace writes a file in one step, readable by the owner alone. What a writer
// that died has left under the temporary name is sealed, and goes.
func replace(root *os.Root, name string, b []byte) (err error) {
	temporary := name + ".new"
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = rename(root, temporary, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there
	}
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
