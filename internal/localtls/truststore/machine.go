// Package truststore tells the mail programs and the system of this machine to
// trust the authority of the gateway's local certificate, and takes that back.
// It only ever touches what it was told to, and keeps a list of it.
//
// Stores: the certificate databases of Thunderbird and Firefox profiles on
// Linux and the BSDs (by NSS certutil), the system's authorities on Debian and
// its kin (as root), the login keychain of macOS, the user's root store on
// Windows. On the last two Thunderbird and Firefox follow the system.
package truststore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Kind is a kind of store.
type Kind string

// The kinds of stores.
const (
	Thunderbird Kind = "thunderbird" // a profile's database; Path is the profile
	Firefox     Kind = "firefox"     // the same of Firefox
	System      Kind = "system"      // Debian's local authorities; Path is their folder
	Keychain    Kind = "keychain"    // macOS; Path is the keychain
	Windows     Kind = "windows"     // the user's root store; no Path
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{Thunderbird, Firefox, System, Keychain, Windows} }

// Store is one place that holds trusted authorities.
type Store struct {
	Kind Kind   `json:"kind"`
	Path string `json:"path,omitempty"`
}

// String names the store for people.
func (s Store) String() string {
	switch s.Kind {
	case Thunderbird:
		return "Thunderbird profile " + s.Path
	case Firefox:
		return "Firefox profile " + s.Path
	case System:
		return "authorities of the system in " + s.Path
	case Keychain:
		return "keychain " + s.Path
	case Windows:
		return "root certificates of the Windows user"
	}
	return string(s.Kind) + " " + s.Path
}

// Machine is where stores are looked for, and how their tools are run.
type Machine struct {
	OS        string // a GOOS
	Home      string // the user's home folder
	Root      bool   // the user may change the system
	SystemDir string // Debian's folder of local authorities
	// Refresh is the command after a change of SystemDir.
	Refresh []string
	// Run runs a tool to its end. Its error includes what the tool said.
	Run func(ctx context.Context, stdin []byte, name string, args ...string) (stdout []byte, err error)
	// Has tells whether a tool is installed.
	Has func(name string) bool
}

// Local is this machine and user.
func Local() (*Machine, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("find certificate stores: %w", err)
	}
	return &Machine{
		OS: runtime.GOOS, Home: home, Root: os.Geteuid() == 0,
		SystemDir: "/usr/local/share/ca-certificates", Refresh: []string{"update-ca-certificates"},
		Run: run,
		Has: func(name string) bool {
			_, err := exec.LookPath(name)
			return err == nil
		},
	}, nil
}

func run(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// profiles are the folders whose sub-folders may be profiles, below the home.
var profiles = []struct {
	kind Kind
	dir  string
}{
	{Thunderbird, ".thunderbird"},
	{Thunderbird, "snap/thunderbird/common/.thunderbird"},
	{Thunderbird, ".var/app/org.mozilla.Thunderbird/.thunderbird"},
	{Firefox, ".mozilla/firefox"},
	{Firefox, ".config/mozilla/firefox"},
	{Firefox, "snap/firefox/common/.mozilla/firefox"},
	{Firefox, ".var/app/org.mozilla.firefox/.mozilla/firefox"},
}

// Find returns the stores of these kinds, of all without any, and for each that
// is there but cannot be changed now, the reason and the remedy.
func (m *Machine) Find(kinds ...Kind) (stores []Store, skipped []string, err error) {
	var found []Store
	switch m.OS {
	case "windows":
		found = append(found, Store{Kind: Windows})
	case "darwin":
		found = append(found, Store{Keychain, filepath.Join(m.Home, "Library", "Keychains", "login.keychain-db")})
	default:
		for _, p := range profiles {
			databases, err := filepath.Glob(filepath.Join(escape(m.Home), p.dir, "*", "cert9.db"))
			if err != nil {
				return nil, nil, fmt.Errorf("find certificate stores: %w", err)
			}
			for _, name := range databases {
				found = append(found, Store{p.kind, filepath.Dir(name)})
			}
		}
		if info, err := os.Stat(m.SystemDir); err == nil && info.IsDir() {
			found = append(found, Store{System, m.SystemDir})
		}
	}
	for _, s := range found {
		if len(kinds) > 0 && !slices.Contains(kinds, s.Kind) {
			continue
		}
		if err := m.able(s); err != nil {
			skipped = append(skipped, fmt.Sprintf("%s: %v", s, err))
			continue
		}
		stores = append(stores, s)
	}
	return stores, skipped, nil
}

// escape takes the meaning from the characters of a pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// able says why a store cannot be changed, or nil.
func (m *Machine) able(s Store) error {
	switch {
	case s.Kind == System && !m.Root:
		return errors.New("only root can change it; run the command as root")
	case s.Kind == System && !m.Has(m.Refresh[0]):
		return fmt.Errorf("%s is not installed (Debian: apt install ca-certificates)", m.Refresh[0])
	case (s.Kind == Thunderbird || s.Kind == Firefox) && !m.Has("certutil"):
		return errors.New("certutil is not installed (Debian: apt install libnss3-tools; Fedora: nss-tools)")
	}
	return nil
}
