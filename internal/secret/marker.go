package secret

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	markerName    = "vault.json"
	markerVersion = 1
	// maxMarker bounds the marker file, which has some 150 octets.
	maxMarker = 4 << 10
)

// marker is the file that says where the key of a data folder is. It holds no
// secret.
type marker struct {
	Source VaultKeySource
	ID     vaultID
	Check  keyCheck
	// unchecked says that there is no marker, only a key file that speaks for
	// itself.
	unchecked bool
}

type markerFile struct {
	Version int            `json:"version"`
	Source  VaultKeySource `json:"source"`
	Vault   string         `json:"vault"`
	Check   string         `json:"check"`
}

// findMarker reads the marker of a folder, or concludes it from a key file
// that is there without one. The error wraps fs.ErrNotExist if there is
// neither.
func findMarker(dir string) (marker, error) {
	name := filepath.Join(dir, markerName)
	b, err := readSmall(name, maxMarker)
	if err == nil {
		m, err := parseMarker(b)
		if err != nil {
			return marker{}, fmt.Errorf("%w: %s: %w; restore it from a copy", ErrVaultKey, name, err)
		}
		return m, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return marker{}, err
	}
	file, err := exists(filepath.Join(dir, keyFileName))
	if err != nil {
		return marker{}, err
	}
	sealed, err := exists(filepath.Join(dir, sealedFileName))
	if err != nil {
		return marker{}, err
	}
	m := marker{unchecked: true}
	switch {
	case file && sealed:
		return marker{}, fmt.Errorf("%w: %s has a %s and a %s, and no %s that says which counts; restore it from a copy, or move one of them away",
			ErrVaultKey, dir, keyFileName, sealedFileName, markerName)
	case file:
		m.Source = VaultKeyFile
		_, err = rand.Read(m.ID[:])
	case sealed:
		m.Source = VaultKeyPassphrase
		var s *sealedKey
		if s, err = readSealed(filepath.Join(dir, sealedFileName)); err == nil {
			m.ID = s.id
		}
	default:
		err = fs.ErrNotExist
	}
	return m, err
}

func exists(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func parseMarker(b []byte) (m marker, err error) {
	if len(b) > maxMarker {
		return m, fmt.Errorf("longer than %d octets", maxMarker)
	}
	var f markerFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return m, fmt.Errorf("not in its form: %w", err)
	}
	if d.More() {
		return m, errors.New("holds more than one value")
	}
	switch f.Source {
	case VaultKeyFile, VaultKeyKeyring, VaultKeyPassphrase, VaultKeyCredential:
	default:
		return m, fmt.Errorf("unknown source %.20q", f.Source)
	}
	if f.Version != markerVersion {
		return m, fmt.Errorf("version %d, known is %d", f.Version, markerVersion)
	}
	m.Source = f.Source
	return m, errors.Join(unhex("vault", f.Vault, m.ID[:]), unhex("check", f.Check, m.Check[:]))
}

func unhex(what, text string, to []byte) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(to) {
		return fmt.Errorf("%s is not %d hexadecimal digits", what, 2*len(to))
	}
	copy(to, b)
	return nil
}

func (m marker) encode() ([]byte, error) {
	b, err := json.MarshalIndent(markerFile{markerVersion, m.Source, hex.EncodeToString(m.ID[:]), hex.EncodeToString(m.Check[:])}, "", "  ")
	return append(b, '\n'), err
}

// create writes the marker of a folder that has none; else the error wraps
// fs.ErrExist.
func (m marker) create(dir string) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	return create(filepath.Join(dir, markerName), b)
}

// replace writes the marker in place of the one that is there.
func (m marker) replace(dir string) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, markerName), b)
}
