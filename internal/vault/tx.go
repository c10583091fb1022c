package vault

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloudmls/gateway/internal/secret"
)

// Limits of a vault.
const (
	// MaxName bounds a name, in octets.
	MaxName = 512
	// MaxSecret bounds a secret, in octets: tokens have a few kilobytes.
	MaxSecret = 64 << 10
	// MaxSecrets bounds the number of secrets.
	MaxSecrets = 10_000
	// MaxFile bounds the file, in octets.
	MaxFile = 8 << 20
)

// Tx is a change under way. It must not be used after the function it was given
// to has returned.
type Tx struct {
	secrets map[string][]byte
	changed bool
}

func newTx(secrets map[string][]byte) *Tx {
	own := maps.Clone(secrets)
	if own == nil {
		own = map[string][]byte{}
	}
	return &Tx{secrets: own}
}

// Get returns a copy of the secret of a name as it is in this change.
func (tx *Tx) Get(name string) (secret.Secret, bool) {
	b, ok := tx.secrets[name]
	if !ok {
		return secret.Secret{}, false
	}
	return secret.New(b), true
}

// Names returns the names that start with prefix, sorted.
func (tx *Tx) Names(prefix string) []string { return names(tx.secrets, prefix) }

// Set stores a copy of a secret. An empty one is refused: it is a mistake of the
// caller more often than meant.
func (tx *Tx) Set(name string, value secret.Secret) error {
	if err := checkName(name); err != nil {
		return err
	}
	b := value.Reveal()
	if err := checkSize(b); err != nil {
		return fmt.Errorf("secret %q: %w", name, err)
	}
	if have, ok := tx.secrets[name]; ok && bytes.Equal(have, b) {
		return nil
	}
	tx.secrets[name], tx.changed = bytes.Clone(b), true
	return nil
}

// Delete removes a secret and reports whether there was one.
func (tx *Tx) Delete(name string) bool {
	_, ok := tx.secrets[name]
	delete(tx.secrets, name)
	tx.changed = tx.changed || ok
	return ok
}

func names(secrets map[string][]byte, prefix string) []string {
	var out []string
	for name := range secrets {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func checkName(name string) error {
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("a secret's name of %d octets; it has 1 to %d", len(name), MaxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("a secret's name has control characters or is not UTF-8: %q", name)
	}
	return nil
}

func checkSize(b []byte) error {
	if len(b) == 0 || len(b) > MaxSecret {
		return fmt.Errorf("it has %d octets; a secret has 1 to %d", len(b), MaxSecret)
	}
	return nil
}
