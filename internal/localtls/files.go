package localtls

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// writeAuthority keeps ca.pem equal to the authority of the pair.
func writeAuthority(p *Pair) error {
	want := p.AuthorityPEM()
	if have, err := os.ReadFile(p.AuthorityFile); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := replace(p.AuthorityFile, want); err != nil {
		return fmt.Errorf("write authority certificate: %w", err)
	}
	return nil
}

// replace writes a file in one step, in place of an older one and readable by
// the owner alone.
func replace(name string, b []byte) error { return put(name, b, os.Rename) }

// place writes a file that is not there yet; else the error wraps fs.ErrExist.
func place(name string, b []byte) error {
	return put(name, b, func(from, to string) error {
		if err := os.Link(from, to); err != nil {
			return err
		}
		return os.Remove(from)
	})
}

func put(name string, b []byte, move func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = move(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
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
