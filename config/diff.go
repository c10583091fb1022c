package config

import (
	"reflect"
	"slices"
	"strings"
)

// Delta is what differs between two configurations of a gateway.
type Delta struct {
	// Added and Removed are the addresses of accounts, as they are spelled in
	// the new and in the old configuration.
	Added, Removed []string
	// Changed are the accounts that are in both and differ.
	Changed []AccountDelta
	// Reload are keys outside the accounts that a running gateway takes over,
	// such as log.level; Restart are those that it does not.
	Reload, Restart []string
}

// AccountDelta is what differs between two versions of an account.
type AccountDelta struct {
	Address string   // as in the new configuration
	Keys    []string // such as policy, imap.host, clients
}

// IsEmpty reports whether nothing differs.
func (d *Delta) IsEmpty() bool { return reflect.ValueOf(*d).IsZero() }

// reloadable are the keys outside the accounts that need no restart. What is
// not here does: listeners, folders, logins and keys are opened once.
var reloadable = []string{"log.level"}

// Diff compares two configurations as [ParseGateway] returns them, with
// defaults: it is about what they mean, not how they are written.
func Diff(old, new *Gateway) *Delta {
	d := &Delta{}
	a, b := *old, *new
	a.Accounts, b.Accounts = nil, nil
	for _, key := range differing(reflect.ValueOf(a), reflect.ValueOf(b), "") {
		if slices.Contains(reloadable, key) {
			d.Reload = append(d.Reload, key)
		} else {
			d.Restart = append(d.Restart, key)
		}
	}
	for i := range old.Accounts {
		if _, err := new.account(old.Accounts[i].Address); err != nil {
			d.Removed = append(d.Removed, old.Accounts[i].Address)
		}
	}
	for i := range new.Accounts {
		account := &new.Accounts[i]
		j, err := old.account(account.Address)
		if err != nil {
			d.Added = append(d.Added, account.Address)
			continue
		}
		keys := differing(reflect.ValueOf(old.Accounts[j]), reflect.ValueOf(*account), "")
		if len(keys) > 0 {
			d.Changed = append(d.Changed, AccountDelta{Address: account.Address, Keys: keys})
		}
	}
	return d
}

// differing returns the keys that differ, in the order of the fields. Lists
// and maps differ as a whole.
func differing(a, b reflect.Value, path string) []string {
	var keys []string
	for i := range a.NumField() {
		name := strings.TrimPrefix(path+"."+a.Type().Field(i).Tag.Get("toml"), ".")
		switch f, g := a.Field(i), b.Field(i); {
		case f.Kind() == reflect.Struct:
			keys = append(keys, differing(f, g, name)...)
		case !same(f, g):
			keys = append(keys, name)
		}
	}
	return keys
}
