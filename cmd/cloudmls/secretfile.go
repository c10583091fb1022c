package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// secretFile is a new file that only its owner reads, for a secret that is made
// later. It is made before the secret, so that a secret that is shown once does
// not find its place taken. Its methods may be called on nil.
type secretFile struct {
	name    string
	f       *os.File
	written bool
}

// newSecretFile makes the file; nil without a name. An empty file is taken for
// one that an interrupted run has left.
func newSecretFile(name string) (*secretFile, error) {
	if name == "" {
		return nil, nil
	}
	if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already; move it away, or name another file", name)
	}
	if err != nil {
		return nil, err
	}
	return &secretFile{name: name, f: f}, nil
}

// write stores the secret; when it returns without an error it is on disk.
func (s *secretFile) write(text string) error {
	_, err := s.f.WriteString(text + "\n")
	if err == nil {
		err = s.f.Sync()
	}
	if err = errors.Join(err, s.f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", s.name, err)
	}
	s.written = true
	return nil
}

// drop removes the file if nothing was written.
func (s *secretFile) drop() {
	if s == nil || s.written {
		return
	}
	_ = s.f.Close()       // nothing is in it
	_ = os.Remove(s.name) // an empty file that stays behind does no harm
}
