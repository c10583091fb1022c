package secret

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// VaultKeySource says where the key of a vault is kept.
type VaultKeySource string

// The sources of a vault key.
const (
	// VaultKeyFile is a file in the data folder: whoever can read the folder
	// can open the vault.
	VaultKeyFile VaultKeySource = "file"
	// VaultKeyKeyring is an entry of the system's keyring: the Secret Service,
	// the macOS keychain or the Windows credential manager.
	VaultKeyKeyring VaultKeySource = "keyring"
	// VaultKeyPassphrase is a file in the data folder, sealed under a
	// passphrase that is asked for at every start.
	VaultKeyPassphrase VaultKeySource = "passphrase"
	// VaultKeyCredential is a credential that systemd hands to the service. It
	// is made by the administrator, never by us.
	VaultKeyCredential VaultKeySource = "credential"
)

// Why a vault key could not be had; see also ErrVaultKey. Whatever the reason,
// nothing was written, removed or replaced.
var (
	// ErrNoVaultKey says that the data folder has no key, or that the key of
	// what is sealed there is gone.
	ErrNoVaultKey = errors.New("no vault key")
	// ErrVaultKeySource says that the folder's key is kept elsewhere than the
	// caller believes.
	ErrVaultKeySource = errors.New("vault key is kept elsewhere")
	// ErrVaultKeyWrong says that a key or passphrase is not that of the vault.
	ErrVaultKeyWrong = errors.New("wrong vault key")
	// ErrVaultKeyUnavailable says that the source cannot be asked now: a keyring
	// that is locked or absent, a credential that was not handed over.
	ErrVaultKeyUnavailable = errors.New("vault key is not available")
)

// DefaultCredentialName is the systemd credential that holds the key.
const DefaultCredentialName = "cloudmls-vault-key"

// DefaultKeyringTimeout is how long a keyring may take; it may ask its owner
// for a password meanwhile.
const DefaultKeyringTimeout = 2 * time.Minute

// VaultKeyOptions says where the key of a data folder is. Source and Dir are
// required.
type VaultKeyOptions struct {
	Source VaultKeySource
	// Dir is the data folder.
	Dir string
	// Passphrase is asked for the passphrase; newOne says that a vault is being
	// made, so that a prompt asks twice. Required for VaultKeyPassphrase.
	Passphrase func(newOne bool) (Secret, error)
	// CredentialName replaces DefaultCredentialName.
	CredentialName string
	// KeyringTimeout replaces DefaultKeyringTimeout.
	KeyringTimeout time.Duration
	// Create allows a key to be made in a folder that has none: set-up and
	// first run only.
	Create bool
	// Sealed names files of the folder, besides "vault", that are sealed under
	// the key. While one of them exists no new key is made.
	Sealed []string
}

// OpenVaultKey returns the key of a data folder. created says that this call
// made it. A folder with nothing but the key file of older versions goes on
// working. The errors wrap one of ErrNoVaultKey, ErrVaultKeySource,
// ErrVaultKeyWrong, ErrVaultKeyUnavailable, ErrVaultKey where one applies, and
// say what to do. Several callers at once get one key.
func OpenVaultKey(o VaultKeyOptions) (key Secret, created bool, err error) {
	key, created, err = openVaultKey(o)
	if err != nil {
		return Secret{}, false, fmt.Errorf("vault key from %s: %w", o.Source, err)
	}
	return key, created, nil
}

func openVaultKey(o VaultKeyOptions) (Secret, bool, error) {
	source, err := o.keeper()
	if err != nil {
		return Secret{}, false, err
	}
	m, err := findMarker(o.Dir)
	if err == nil {
		key, err := openKnown(o, source, m)
		return key, false, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Secret{}, false, err
	}
	if !o.Create {
		return Secret{}, false, fmt.Errorf("%w in %s; run 'cloudmls setup', or restore the folder from a copy", ErrNoVaultKey, o.Dir)
	}
	if err := o.nothingSealed(); err != nil {
		return Secret{}, false, err
	}
	return makeVaultKey(o, source)
}

// openKnown opens the key that the marker speaks of.
func openKnown(o VaultKeyOptions, source keeper, m marker) (Secret, error) {
	if m.Source != o.Source {
		return Secret{}, fmt.Errorf("%w: the folder %s has its key from %s; set key = %q under [vault] in the configuration",
			ErrVaultKeySource, o.Dir, m.Source, m.Source)
	}
	key, err := source.load(m.ID)
	if err != nil {
		return Secret{}, err
	}
	if !m.unchecked && !m.Check.matches(key, m.ID) {
		return Secret{}, fmt.Errorf("%w: what %s holds is not the key of the vault in %s; give back the one it was made with",
			ErrVaultKeyWrong, source.where(m.ID), o.Dir)
	}
	if m.unchecked && o.Create { // a folder of an older version, or a crash before the marker
		m.Check = newCheck(key, m.ID)
		if err := m.create(o.Dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return Secret{}, err
		}
	}
	return key, nil
}

// makeVaultKey stores a new key and then says so in the marker. Without the
// marker a crash leaves a key file that counts by itself, or an entry in the
// keyring that nothing refers to.
func makeVaultKey(o VaultKeyOptions, source keeper) (Secret, bool, error) {
	if err := privateDir(o.Dir); err != nil {
		return Secret{}, false, err
	}
	m := marker{Source: o.Source}
	if _, err := rand.Read(m.ID[:]); err != nil {
		return Secret{}, false, err
	}
	key, err := source.make(m.ID)
	if errors.Is(err, fs.ErrExist) { // someone else was faster
		return reopen(o)
	}
	if err != nil {
		return Secret{}, false, err
	}
	m.Check = newCheck(key, m.ID)
	switch err := m.create(o.Dir); {
	case errors.Is(err, fs.ErrExist):
		if err := source.forget(m.ID); err != nil {
			return Secret{}, false, err
		}
		theirs, _, err := reopen(o)
		return theirs, err == nil && theirs.Equal(key), err
	case err != nil:
		return Secret{}, false, errors.Join(err, source.forget(m.ID))
	}
	return key, true, nil
}

func reopen(o VaultKeyOptions) (Secret, bool, error) {
	o.Create = false
	return openVaultKey(o)
}

// nothingSealed fails if the folder has data that a new key could not open.
func (o VaultKeyOptions) nothingSealed() error {
	for _, name := range append([]string{"vault"}, o.Sealed...) {
		file := filepath.Join(o.Dir, name)
		_, err := os.Lstat(file)
		if err == nil {
			return fmt.Errorf("%w: %s is sealed under a key that is not there any more; restore the key from a copy, or move the folder away and set up anew",
				ErrNoVaultKey, file)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// vaultID names a vault: at random, so that two installations never share an
// entry of a keyring.
type vaultID [16]byte

// keyCheck tells the right key from another. The key has 256 random bits, so
// nobody finds it by this.
type keyCheck [16]byte

func newCheck(key Secret, id vaultID) (c keyCheck) {
	b, err := hkdf.Key(sha256.New, key.Reveal(), id[:], "cloudmls/1 vault key check", len(c))
	if err != nil {
		panic(err) // only for lengths that HKDF does not have
	}
	copy(c[:], b)
	return c
}

func (c keyCheck) matches(key Secret, id vaultID) bool {
	want := newCheck(key, id)
	return EqualBytes(c[:], want[:])
}

// newVaultKey returns 32 random octets.
func newVaultKey() (Secret, error) {
	b := make([]byte, VaultKeySize)
	defer clear(b)
	if _, err := rand.Read(b); err != nil {
		return Secret{}, err
	}
	return New(b), nil
}
