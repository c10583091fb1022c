package keys

import "fmt"

// ForDirections is a scope of its own for the key that directions are sealed
// under: what is wrapped in it is no ROOT, and no ROOT opens in it.
func (s Scope) ForDirections() Scope {
	return Scope{Origin: "cloudmls/1 directions of " + s.Origin, User: s.User}
}

// ForDirections opens what was wrapped in the scope of that name.
func (w *Wrapper) ForDirections() *Wrapper {
	d := *w
	d.scope = w.scope.ForDirections()
	return &d
}

// StoreAuth derives what a store of the user's own knows the user by, from a
// secret that has nothing to do with the password. s is that store's: its origin
// and the user's id there.
func StoreAuth(secret []byte, s Scope) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if len(secret) != keySize {
		return nil, fmt.Errorf("derive AUTH of a store: secret of %d octets, want %d", len(secret), keySize)
	}
	auth, err := s.expand(secret, "cloudmls/1 store auth", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive AUTH of a store: %w", err)
	}
	return auth, nil
}
