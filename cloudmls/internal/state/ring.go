package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
)

// keyring holds the keys that outlive a ROOT. A published keyring is never
// changed; changes go to a clone.
type keyring struct {
	Version    int              `json:"version"`
	Index      []byte           `json:"index"`  // K_index
	Secret     []byte           `json:"secret"` // for Store.Derive
	Archive    []archiveKey     `json:"archive"`
	Recipients []keys.Recipient `json:"recipients"` // whom ROOT is wrapped to
	Roots      []oldRoot        `json:"roots,omitempty"`
	// Last is the highest number that an archive key ever had: the number of a
	// destroyed key is not given to another one.
	Last uint32 `json:"last,omitempty"`
	// Events are what the user should hear of on every device, oldest first. They
	// lie here because all of them change the keyring anyway.
	Events []event `json:"events,omitempty"`
}

// archiveKey seals archive records or own uploads. It is random, so that a
// new ROOT orphans nothing, and destroying it destroys what it sealed.
type archiveKey struct {
	Number uint32 `json:"number"` // in the envelope's header
	Scope  string `json:"scope"`  // "": for ever; scopePersonal; else of one group (Tx.Scope)
	Month  string `json:"month"`  // "2026-11"; "" for scopePersonal
	Key    []byte `json:"key"`
	// Old: nothing new is sealed under it; a device that was dropped has it.
	Old bool `json:"old,omitempty"`
}

// oldRoot is an earlier ROOT under which objects may still lie.
type oldRoot struct {
	Version uint32 `json:"version"`
	Key     []byte `json:"key"`
}

const (
	ringVersion   = 1
	scopePersonal = "personal"
	secretSize    = 32
)

var errRing = errors.New("keyring is malformed")

func newKeyring(recipients ...keys.Recipient) (*keyring, error) {
	r := &keyring{Version: ringVersion, Recipients: recipients}
	var err error
	if r.Index, err = keys.NewSecret(); err != nil {
		return nil, err
	}
	if r.Secret, err = keys.NewSecret(); err != nil {
		return nil, err
	}
	if _, err = r.add(scopePersonal, ""); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *keyring) clone() *keyring {
	c := *r
	c.Archive = slices.Clone(r.Archive)
	c.Recipients = slices.Clone(r.Recipients)
	c.Roots = slices.Clone(r.Roots)
	c.Events = slices.Clone(r.Events)
	return &c
}

func (r *keyring) add(scope, month string) (archiveKey, error) {
	k, err := keys.NewSecret()
	if err != nil {
		return archiveKey{}, err
	}
	a := archiveKey{Number: r.Last + 1, Scope: scope, Month: month, Key: k}
	for _, x := range r.Archive {
		a.Number = max(a.Number, x.Number+1)
	}
	r.Last = a.Number
	r.Archive = append(r.Archive, a)
	return a, nil
}

// current finds the key for new envelopes.
func (r *keyring) current(scope, month string) (archiveKey, bool) {
	for _, a := range r.Archive {
		if a.Scope == scope && a.Month == month && !a.Old {
			return a, true
		}
	}
	return archiveKey{}, false
}

// retireArchive makes all archive keys old: they open what lies under them, and
// what comes is sealed under others, made when they are first needed.
func (r *keyring) retireArchive() error {
	for i := range r.Archive {
		r.Archive[i].Old = true
	}
	_, err := r.add(scopePersonal, "") // is needed without a transaction
	return err
}

func (r *keyring) archiveKey(number uint32) ([]byte, bool) {
	for _, a := range r.Archive {
		if a.Number == number {
			return a.Key, true
		}
	}
	return nil, false
}

func monthOf(t time.Time) string { return t.UTC().Format("2006-01") }

func (r *keyring) marshal() ([]byte, error) { return json.Marshal(r) }

func parseKeyring(b []byte) (*keyring, error) {
	var r keyring
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, errRing
	}
	if r.Version != ringVersion {
		return nil, fmt.Errorf("keyring of version %d, this program knows %d", r.Version, ringVersion)
	}
	if len(r.Index) != secretSize || len(r.Secret) != secretSize {
		return nil, errRing
	}
	seen := map[uint32]bool{}
	for _, a := range r.Archive {
		if len(a.Key) != secretSize || seen[a.Number] {
			return nil, errRing
		}
		seen[a.Number] = true
	}
	for _, o := range r.Roots {
		if len(o.Key) != keys.RootSize {
			return nil, errRing
		}
	}
	return &r, nil
}
