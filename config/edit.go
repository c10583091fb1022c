package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Change is one change to a gateway's file, for [EditGateway].
type Change struct {
	what string
	// apply changes the configuration, as decoded and without defaults, and
	// returns how the document is changed to say the same.
	apply func(*Gateway) (func(*layout) ([]byte, error), error)
}

// EditGateway changes a gateway's file and leaves everything else in it as it
// is, octet by octet: comments, order, line ends. The changes are made in
// turn. The result has been parsed and checked, and says exactly what old said
// with the changes made; otherwise there is an error, [Problems] among them,
// and no result. Old itself may hold problems that the changes cure.
func EditGateway(old []byte, changes ...Change) ([]byte, error) {
	const name = "changed configuration"
	want := &Gateway{}
	if c := decode(name, old, want); !c.ok {
		return nil, c.problems.sorted()
	}
	text := slices.Clone(old)
	for _, ch := range changes {
		edit, err := ch.apply(want)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ch.what, err)
		}
		l, err := newLayout(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ch.what, err)
		}
		if text, err = edit(l); err != nil {
			return nil, fmt.Errorf("%s: %w", ch.what, err)
		}
		// What cannot be read is not edited any further.
		if c := decode(name, text, &Gateway{}); !c.ok {
			return nil, fmt.Errorf("%s: %w (%w)", ch.what, errLayout, c.problems.sorted())
		}
	}
	got, err := ParseGateway(name, text)
	if err != nil {
		return nil, err
	}
	setDefaults(reflect.ValueOf(want).Elem())
	(&checks{file: name, at: locate(nil)}).gateway(want)
	if !same(reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem()) {
		return nil, errLayout
	}
	return text, nil
}

// same is reflect.DeepEqual for which empty and absent are one.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		return a.Len() == 0 && b.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface())
	}
	return a.Interface() == b.Interface()
}

// Set sets a key outside the accounts to a string, bool, int or []string; key
// is its path, such as "listen", "imap".
func Set(value any, key ...string) Change {
	return Change{"set " + strings.Join(key, "."), func(g *Gateway) (func(*layout) ([]byte, error), error) {
		return setKey(reflect.ValueOf(g).Elem(), "", key, value)
	}}
}

// Unset removes a key outside the accounts, so that its default applies. One
// that is not there is no error.
func Unset(key ...string) Change {
	return Change{"unset " + strings.Join(key, "."), func(g *Gateway) (func(*layout) ([]byte, error), error) {
		return unsetKey(reflect.ValueOf(g).Elem(), "", key)
	}}
}

// SetAccount is [Set] for the account of an address; key is a path in the
// account, such as "imap", "host" or "recipients", "bob@example.net".
func SetAccount(address string, value any, key ...string) Change {
	return Change{"set " + strings.Join(key, "."), func(g *Gateway) (func(*layout) ([]byte, error), error) {
		i, err := g.account(address)
		if err != nil {
			return nil, err
		}
		return setKey(reflect.ValueOf(&g.Accounts[i]).Elem(), accountAt(i), key, value)
	}}
}

// UnsetAccount is [Unset] for the account of an address.
func UnsetAccount(address string, key ...string) Change {
	return Change{"unset " + strings.Join(key, "."), func(g *Gateway) (func(*layout) ([]byte, error), error) {
		i, err := g.account(address)
		if err != nil {
			return nil, err
		}
		return unsetKey(reflect.ValueOf(&g.Accounts[i]).Elem(), accountAt(i), key)
	}}
}

// AddAccount adds an account behind the others. Fields that are zero are not
// written, so that defaults apply.
func AddAccount(a Account) Change {
	return Change{"add an account", func(g *Gateway) (func(*layout) ([]byte, error), error) {
		g.Accounts = append(slices.Clip(g.Accounts), a.clone()) // what is completed later is not the caller's
		return addElement("", "accounts", reflect.ValueOf(a))
	}}
}

// RemoveAccount removes the account of an address with all its tables.
func RemoveAccount(address string) Change {
	return Change{"remove an account", func(g *Gateway) (func(*layout) ([]byte, error), error) {
		i, err := g.account(address)
		if err != nil {
			return nil, err
		}
		g.Accounts = slices.Delete(g.Accounts, i, i+1)
		return func(l *layout) ([]byte, error) { return l.removeTable(accountAt(i)) }, nil
	}}
}

// AddClient adds a mail program to the account of an address.
func AddClient(address string, c Client) Change {
	return Change{"add a mail program", func(g *Gateway) (func(*layout) ([]byte, error), error) {
		i, err := g.account(address)
		if err != nil {
			return nil, err
		}
		g.Accounts[i].Clients = append(slices.Clip(g.Accounts[i].Clients), c)
		return addElement(accountAt(i), "clients", reflect.ValueOf(c))
	}}
}

// RemoveClient removes a mail program from the account of an address.
func RemoveClient(address, name string) Change {
	return Change{"remove a mail program", func(g *Gateway) (func(*layout) ([]byte, error), error) {
		i, err := g.account(address)
		if err != nil {
			return nil, err
		}
		clients := g.Accounts[i].Clients
		j := slices.IndexFunc(clients, func(c Client) bool { return c.Name == name })
		if j < 0 {
			return nil, fmt.Errorf("the account has no mail program %q", name)
		}
		g.Accounts[i].Clients = slices.Delete(clients, j, j+1)
		at := accountAt(i).key("clients").index(j)
		return func(l *layout) ([]byte, error) { return l.removeTable(at) }, nil
	}}
}

func accountAt(i int) where { return where("").key("accounts").index(i) }

// account returns the index of the account of an address.
func (g *Gateway) account(address string) (int, error) {
	i := slices.IndexFunc(g.Accounts, func(a Account) bool { return strings.EqualFold(a.Address, address) })
	if i < 0 {
		return 0, fmt.Errorf("there is no account %s", address)
	}
	return i, nil
}

func addElement(outer where, array string, v reflect.Value) (func(*layout) ([]byte, error), error) {
	if err := checkText(v); err != nil {
		return nil, err
	}
	return func(l *layout) ([]byte, error) {
		return l.addElement(outer, array, tomlValue(v), func(header string) []string { return tomlTable(header, v, true) })
	}, nil
}

// clone returns a copy that shares nothing.
func (a Account) clone() Account {
	a.KnownLists, a.Clients = slices.Clone(a.KnownLists), slices.Clone(a.Clients)
	a.Recipients, a.Domains = maps.Clone(a.Recipients), maps.Clone(a.Domains)
	return a
}
