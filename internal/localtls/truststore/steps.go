package truststore

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Describe says in commands what Add and Remove do to a store; file stands for
// the authority's certificate in PEM form.
func (m *Machine) Describe(s Store, c *x509.Certificate, file string) (add, remove string) {
	switch s.Kind {
	case Thunderbird, Firefox:
		return shell("certutil", "-A", "-a", "-i", file, "-d", "sql:"+s.Path, "-n", nickname(c), "-t", nssTrust),
			shell("certutil", "-D", "-d", "sql:"+s.Path, "-n", nickname(c))
	case System:
		return shell("install", "-m", "0644", file, systemFile(s, c)) + " && " + shell(m.Refresh...),
			shell("rm", systemFile(s, c)) + " && " + shell(m.refreshRemoved()...)
	case Keychain:
		return shell(keychainAdd(s, file)...), shell(keychainRemove(s, c)...)
	case Windows:
		return shell("certutil", "-user", "-addstore", "Root", file), shell("certutil", "-user", "-delstore", "Root", thumbprint(c))
	}
	return "", ""
}

// add makes a store trust an authority.
func (m *Machine) add(ctx context.Context, s Store, c *x509.Certificate) error {
	switch s.Kind {
	case Thunderbird, Firefox:
		if _, err := m.Run(ctx, encode(c), "certutil", "-A", "-a", "-d", "sql:"+s.Path, "-n", nickname(c), "-t", nssTrust); err != nil {
			return fmt.Errorf("%w (if the profile has a primary password, import the certificate in the program's settings)", err)
		}
		return m.holds(ctx, s, c)
	case System:
		return m.addToSystem(ctx, s, c)
	case Keychain:
		return withFile(c, func(file string) error {
			add := keychainAdd(s, file)
			_, err := m.Run(ctx, nil, add[0], add[1:]...)
			return err
		})
	case Windows:
		return withFile(c, func(file string) error {
			_, err := m.Run(ctx, nil, "certutil", "-user", "-addstore", "Root", file)
			return err
		})
	}
	return fmt.Errorf("unknown kind of certificate store %q", s.Kind)
}

// remove ends a store's trust in an authority. One that it does not hold, or a
// store that is gone, is no error.
func (m *Machine) remove(ctx context.Context, s Store, c *x509.Certificate) error {
	switch s.Kind {
	case Thunderbird, Firefox:
		if _, err := os.Stat(filepath.Join(s.Path, "cert9.db")); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		err := m.holds(ctx, s, c)
		if errors.Is(err, errAbsent) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = m.Run(ctx, nil, "certutil", "-D", "-d", "sql:"+s.Path, "-n", nickname(c))
		return err
	case System:
		return m.removeFromSystem(ctx, s, c)
	case Keychain:
		err := withFile(c, func(file string) error {
			_, err := m.Run(ctx, nil, "security", "remove-trusted-cert", file)
			return err
		})
		remove := keychainRemove(s, c)
		_, deleteErr := m.Run(ctx, nil, remove[0], remove[1:]...)
		if deleteErr == nil {
			return nil // without the certificate there is nothing left to trust
		}
		return errors.Join(err, deleteErr)
	case Windows:
		_, err := m.Run(ctx, nil, "certutil", "-user", "-delstore", "Root", thumbprint(c))
		return err
	}
	return fmt.Errorf("unknown kind of certificate store %q", s.Kind)
}

// nssTrust: trusted to identify servers, for nothing else.
const nssTrust = "C,,"

// errAbsent says that a database does not hold a certificate.
var errAbsent = errors.New("the certificate is not there")

// holds checks that an NSS database has this certificate under its name.
func (m *Machine) holds(ctx context.Context, s Store, c *x509.Certificate) error {
	list, err := m.Run(ctx, nil, "certutil", "-L", "-d", "sql:"+s.Path)
	if err != nil {
		return err
	}
	if !bytes.Contains(list, []byte(nickname(c))) {
		return errAbsent
	}
	out, err := m.Run(ctx, nil, "certutil", "-L", "-a", "-d", "sql:"+s.Path, "-n", nickname(c))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(out)
	if block == nil || !bytes.Equal(block.Bytes, c.Raw) {
		return fmt.Errorf("%s holds another certificate of the name %q", s, nickname(c))
	}
	return nil
}

func (m *Machine) addToSystem(ctx context.Context, s Store, c *x509.Certificate) error {
	name := systemFile(s, c)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		have, readErr := os.ReadFile(name)
		if readErr != nil || !bytes.Equal(have, encode(c)) {
			return fmt.Errorf("%s is there and is not ours; move it away", name)
		}
	} else if err != nil {
		return err
	} else {
		_, err = f.Write(encode(c))
		if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
			return errors.Join(err, os.Remove(name))
		}
	}
	_, err = m.Run(ctx, nil, m.Refresh[0], m.Refresh[1:]...)
	return err
}

func (m *Machine) removeFromSystem(ctx context.Context, s Store, c *x509.Certificate) error {
	name := systemFile(s, c)
	have, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !bytes.Equal(have, encode(c)):
		return fmt.Errorf("%s is not ours and was left", name)
	default:
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	refresh := m.refreshRemoved()
	_, err = m.Run(ctx, nil, refresh[0], refresh[1:]...)
	return err
}

// refreshRemoved is the command after a removal: without --fresh a link to what was
// removed stays.
func (m *Machine) refreshRemoved() []string { return append(slices.Clone(m.Refresh), "--fresh") }

// nickname is the certificate's name in an NSS database: its subject, which has
// random characters in it.
func nickname(c *x509.Certificate) string { return c.Subject.CommonName }

func systemFile(s Store, c *x509.Certificate) string {
	return filepath.Join(s.Path, "cloudmls-gateway-"+strings.ToLower(thumbprint(c)[:16])+".crt")
}

func keychainAdd(s Store, file string) []string {
	return []string{"security", "add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "-k", s.Path, file}
}

func keychainRemove(s Store, c *x509.Certificate) []string {
	return []string{"security", "delete-certificate", "-Z", thumbprint(c), s.Path}
}

// thumbprint is the SHA-1 by which macOS and Windows name certificates.
func thumbprint(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// withFile gives tools that read no standard input a file with the certificate.
func withFile(c *x509.Certificate, use func(file string) error) (err error) {
	f, err := os.CreateTemp("", "cloudmls-*.pem")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(encode(c))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return use(f.Name())
}

// shell writes a command line for people to read and paste.
func shell(words ...string) string {
	plain := func(r rune) bool {
		return strings.ContainsRune("-_./:=,%+@", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
	}
	var out []string
	for _, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return !plain(r) }) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}
