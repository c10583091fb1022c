package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// maxSecret bounds a secret that is read: tokens have a few kilobytes.
const maxSecret = 64 << 10

// FromFile reads a secret from a file that only its owner may read. One line
// end at the end is taken off.
func FromFile(name string) (s Secret, err error) {
	err = readPrivate(name, func(r io.Reader) (err error) {
		s, err = FromReader(r)
		return err
	})
	return s, err
}

// TextFromFile reads a secret of several lines, such as a key in PEM, from a
// file that nobody else may read, as it is.
func TextFromFile(name string) (s Secret, err error) {
	err = readPrivate(name, func(r io.Reader) error {
		b, err := io.ReadAll(io.LimitReader(r, maxText+1))
		defer func() { clear(b) }()
		switch {
		case err != nil:
			return fmt.Errorf("read secret: %w", err)
		case len(b) == 0 || len(b) > maxText:
			return fmt.Errorf("read secret: it has %d octets; 1 to %d are allowed", len(b), maxText)
		}
		s = New(bytes.Clone(b))
		return nil
	})
	return s, err
}

// maxText bounds a secret of several lines, in octets.
const maxText = 64 << 10

// readPrivate opens a file that only its owner may read.
func readPrivate(name string, read func(io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read secret: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read secret: %w", err)
	}
	if err := checkMode(name, info); err != nil {
		return fmt.Errorf("read secret: %w", err)
	}
	if err := read(f); err != nil {
		return fmt.Errorf("%w (file %s)", err, name)
	}
	return nil
}

// FromEnv reads a secret from an environment variable.
func FromEnv(name string) (Secret, error) {
	value, ok := os.LookupEnv(name)
	if !ok {
		return Secret{}, fmt.Errorf("read secret: the environment variable %s is not set", name)
	}
	s, err := FromReader(bytes.NewReader([]byte(value)))
	if err != nil {
		return Secret{}, fmt.Errorf("%w (environment variable %s)", err, name)
	}
	return s, nil
}

// FromReader reads a secret to the end of r, for standard input. One line end
// at the end is taken off; what remains must be one line and not empty.
func FromReader(r io.Reader) (Secret, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	defer func() { clear(b) }()
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	if len(b) > maxSecret {
		return Secret{}, fmt.Errorf("read secret: longer than %d octets", maxSecret)
	}
	value := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(value) == 0:
		return Secret{}, errors.New("read secret: it is empty")
	case bytes.ContainsAny(value, "\r\n\x00"):
		return Secret{}, errors.New("read secret: it has more than one line or a NUL")
	}
	return New(value), nil
}

// ErrExposed: a file with a secret can be read by others.
var ErrExposed = errors.New("a secret can be read by others")

// exposed is the text of an ErrExposed.
type exposed string

// Error implements error.
func (e exposed) Error() string { return string(e) }

// Is makes it an ErrExposed.
func (e exposed) Is(target error) bool { return target == ErrExposed }

// checkMode refuses a regular file that others may read or write.
func checkMode(name string, info os.FileInfo) error {
	if runtime.GOOS == "windows" || !info.Mode().IsRegular() {
		return nil // no such bits; or a pipe of the caller's own
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return exposed(fmt.Sprintf("%s can be read by others (mode %04o); run chmod 600 on it", name, mode))
	}
	return nil
}
