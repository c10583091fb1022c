package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrChanged says that a file is not what it was when it was read.
var ErrChanged = errors.New("the file was changed meanwhile by somebody else; nothing was written")

// WriteFile replaces a configuration file. Old is what was read from it, nil
// for a file that must not exist yet; if the file says something else by now,
// the error is [ErrChanged] and nothing is written. The file is replaced as a
// whole or not at all, also when the machine dies. A new one has mode 0600, and
// its folder is made with mode 0700; one that is there keeps its owner, and its
// mode less what others may. A symlink stays and its target is replaced.
func WriteFile(name string, old, b []byte) error {
	if err := writeFile(name, old, b); err != nil {
		return fmt.Errorf("write configuration %s: %w", name, err)
	}
	return nil
}

func writeFile(name string, old, b []byte) error {
	target, err := behindLinks(name)
	if err != nil {
		return err
	}
	info, err := unchanged(target, old)
	if err != nil {
		return err
	}
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".cloudmls-*") // with mode 0600
	if err != nil {
		return err
	}
	temp := f.Name()
	if err := fill(f, info, b); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	// Once more, so that what somebody saved meanwhile is not lost.
	if _, err := unchanged(target, old); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, target); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(dir)
}

// unchanged compares a file with what was read from it.
func unchanged(name string, old []byte) (fs.FileInfo, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && old == nil:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrChanged
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case old == nil || info.Size() != int64(len(old)):
		return nil, ErrChanged
	}
	now, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(now, old) {
		return nil, ErrChanged
	}
	return info, nil
}

// fill writes, gives the file the rights of the one that it replaces, and
// closes it.
func fill(f *os.File, info fs.FileInfo, b []byte) error {
	_, err := f.Write(b)
	if err == nil && info != nil {
		if err = keepOwner(f, info); err == nil {
			err = f.Chmod(info.Mode().Perm()&^0o007 | 0o600)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// behindLinks returns the file that a symlink means, there or not.
func behindLinks(name string) (string, error) {
	for range 16 {
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return name, nil
		}
		target, err := os.Readlink(name)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(name), target)
		}
		name = target
	}
	return "", errors.New("too many symlinks")
}
