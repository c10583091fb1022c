package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// maxCredential bounds the file: 64 hexadecimal digits and a line end.
const maxCredential = 128

// credentialKeeper takes the key from the folder that systemd makes for the
// service (systemd.exec(5), LoadCredential and LoadCredentialEncrypted).
type credentialKeeper struct{ name string }

func (c credentialKeeper) file() (string, error) {
	name := c.name
	if name == "" {
		name = DefaultCredentialName
	}
	if len(name) > 255 || strings.ContainsAny(name, "/\\\x00:") || name == "." || name == ".." {
		return "", fmt.Errorf("%.40q is not the name of a credential", name)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", fmt.Errorf("%w: CREDENTIALS_DIRECTORY is not set: start this as a systemd service with LoadCredentialEncrypted=%s",
			ErrVaultKeyUnavailable, name)
	}
	return filepath.Join(dir, name), nil
}

func (c credentialKeeper) load(vaultID) (Secret, error) {
	name, err := c.file()
	if err != nil {
		return Secret{}, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Secret{}, fmt.Errorf("%w: systemd handed over no credential %s; add LoadCredentialEncrypted= or LoadCredential= to the unit",
			ErrVaultKeyUnavailable, filepath.Base(name))
	}
	if err != nil {
		return Secret{}, fmt.Errorf("%w: %w", ErrVaultKeyUnavailable, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return Secret{}, err
	}
	// The group bits are the mask of the access list by which systemd lets the
	// service's user in.
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return Secret{}, fmt.Errorf("%s can be read by everybody (mode %04o); let systemd make it", name, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	defer func() { clear(b) }()
	if err != nil {
		return Secret{}, fmt.Errorf("%w: %w", ErrVaultKeyUnavailable, err)
	}
	key, err := parseCredential(b)
	if err != nil {
		return Secret{}, fmt.Errorf("%w: credential %s: %w", ErrVaultKey, filepath.Base(name), err)
	}
	return key, nil
}

// parseCredential reads 32 octets, or their hexadecimal or base64 form.
func parseCredential(b []byte) (Secret, error) {
	key := make([]byte, VaultKeySize+8)
	defer clear(key)
	n := 0
	if text := bytes.TrimSpace(b); len(b) == VaultKeySize {
		n = copy(key, b)
	} else if hex.DecodedLen(len(text)) == VaultKeySize {
		if m, err := hex.Decode(key, text); err == nil {
			n = m
		}
	} else if text = bytes.TrimRight(text, "="); len(text) == base64.RawStdEncoding.EncodedLen(VaultKeySize) {
		if m, err := base64.RawStdEncoding.Strict().Decode(key, text); err == nil {
			n = m
		}
	}
	if n != VaultKeySize {
		return Secret{}, fmt.Errorf("it is not %d octets, as they are or in hexadecimal or base64 form; make one with 'openssl rand -base64 %d'",
			VaultKeySize, VaultKeySize)
	}
	key = key[:n]
	if bytes.Count(key, key[:1]) == n {
		return Secret{}, errors.New("all its octets are the same; make one with 'openssl rand'")
	}
	return New(key), nil
}

// make takes the credential as it is: it is the administrator's.
func (c credentialKeeper) make(id vaultID) (Secret, error) { return c.load(id) }

// keep checks that the administrator has made the credential of this key.
func (c credentialKeeper) keep(id vaultID, key Secret) error {
	have, err := c.load(id)
	if err != nil {
		return err
	}
	if !have.Equal(key) {
		return fmt.Errorf("%w: the credential is not the key of this vault; make it from the key with systemd-creds encrypt", ErrVaultKeyWrong)
	}
	return nil
}

func (credentialKeeper) forget(vaultID) error         { return nil }
func (credentialKeeper) remove(vaultID, Secret) error { return nil }

func (c credentialKeeper) where(vaultID) string {
	if c.name == "" {
		return "credential " + DefaultCredentialName
	}
	return "credential " + c.name
}
