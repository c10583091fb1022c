package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// directions say which store has the user's objects, and how to sign in there.
// They lie at the home store, sealed to password, recovery code and devices, so
// that whoever signs in finds the state, and change by compare-and-swap. docs/adr/0014-own-store.md.
//
// They are made by holders of the keyring alone, for whoever wraps for a
// recipient must know its authenticator. A home store can withhold them or serve
// older ones, and names nothing by itself.
type directions struct {
	Version int    `json:"version"`
	At      string `json:"at"`               // id of the store that has the objects
	Moving  string `json:"moving,omitempty"` // id of the store that they are moving to
	// Stores are those of the user's own, the latest last. One that was left
	// stays for a while: a device may have to be sent on from there.
	Stores []storeLogin `json:"stores,omitempty"`
	// Root is set while a recovery is under way at a store where it may not change
	// objects: the new password opens it here, until it does there.
	Root        []byte `json:"root,omitempty"`
	RootVersion uint32 `json:"root_version,omitempty"`
	// Counter is the home store's; 0: there are none.
	Counter uint64 `json:"counter"`
}

// storeLogin is a user at a store of the user's own. Its secret is random and
// the devices': the password has nothing to do with it.
type storeLogin struct {
	ID         string `json:"id"`
	Origin     string `json:"origin"`
	Username   string `json:"username"`
	UserID     []byte `json:"user_id"`
	Secret     []byte `json:"secret"`
	Former     []byte `json:"former,omitempty"`     // until it is known that Secret has replaced it
	Invitation string `json:"invitation,omitempty"` // until the user is registered
	Registered bool   `json:"registered,omitempty"`
}

const (
	directionsVersion = 1
	directionsMagic   = "CMD1"
	atHome            = "home" // id of the store that takes the tokens of Config.Server
	// maxStores bounds directions.Stores.
	maxStores = 8
)

var errDirections = errors.New("directions to the state are malformed, or not made by a device of the user")

func noDirections(counter uint64) *directions {
	return &directions{Version: directionsVersion, At: atHome, Counter: counter}
}

func (d *directions) clone() *directions {
	c := *d
	c.Stores = slices.Clone(d.Stores)
	return &c
}

func (d *directions) login(id string) (*storeLogin, bool) {
	i := slices.IndexFunc(d.Stores, func(l storeLogin) bool { return l.ID == id })
	if i < 0 {
		return nil, false
	}
	return &d.Stores[i], true
}

// named gives the id of the store of an origin that the directions name: the one
// that the objects are moving to, else the latest.
func (d *directions) named(origin, home string) (string, bool) {
	if l, ok := d.login(d.Moving); ok && l.Origin == origin {
		return l.ID, true
	}
	if origin == home {
		return atHome, true
	}
	for _, l := range slices.Backward(d.Stores) {
		if l.Origin == origin {
			return l.ID, true
		}
	}
	return "", false
}

// add lists another store; the oldest that is not needed makes room.
func (d *directions) add(l storeLogin) {
	for i := 0; len(d.Stores) >= maxStores && i < len(d.Stores); {
		if id := d.Stores[i].ID; id != d.At && id != d.Moving {
			d.Stores = slices.Delete(d.Stores, i, i+1)
		} else {
			i++
		}
	}
	d.Stores = append(d.Stores, l)
}

// seal gives the octets of the directions at a counter, for these recipients.
func (d *directions) seal(counter uint64, to []keys.Recipient, scope keys.Scope, slot uint16) ([]byte, error) {
	key, err := keys.NewSecret()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	var wraps []keys.Wrap
	for _, r := range to {
		w, err := r.Root(key, 1, scope.ForDirections())
		if err != nil {
			return nil, err
		}
		wraps = append(wraps, w)
	}
	list, err := keys.MarshalWraps(wraps)
	if err != nil {
		return nil, err
	}
	next := *d
	next.Counter = counter
	plain, err := json.Marshal(&next)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	sealed, err := envelope.Seal(key, directionsContext(scope), envelope.Header{Counter: counter, Slot: slot}, plain)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32([]byte(directionsMagic), uint32(len(list)))
	b = append(append(b, list...), sealed...)
	if len(b) > keyapi.MaxDirections {
		return nil, errors.New("directions to the state do not fit: remove devices that are not used any more")
	}
	return b, nil
}

func directionsContext(scope keys.Scope) envelope.Context {
	c := envelope.Context{Origin: scope.Origin, Type: uint8(typeDirections)}
	copy(c.User[:], scope.User)
	return c
}

// openDirections opens directions with the first wrapper that can.
func openDirections(x keyapi.Directions, scope keys.Scope, ws ...*keys.Wrapper) (*directions, error) {
	list, sealed, err := splitDirections(x.Data)
	if err != nil {
		return nil, err
	}
	wraps, err := keys.ParseWraps(list)
	if err != nil {
		return nil, errDirections
	}
	for _, w := range ws {
		key, _, err := w.ForDirections().Find(wraps)
		if err != nil {
			continue
		}
		_, plain, err := envelope.Open(key, directionsContext(scope), envelope.Expect{Counter: &x.Counter}, sealed)
		clear(key)
		if err != nil {
			return nil, errDirections
		}
		defer clear(plain)
		return parseDirections(plain, x.Counter)
	}
	return nil, fmt.Errorf("%w: they do not open on this device", errDirections)
}

func splitDirections(b []byte) (wraps, sealed []byte, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(directionsMagic))
	if !ok || len(b) > keyapi.MaxDirections || len(rest) < 4 {
		return nil, nil, errDirections
	}
	n := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	if uint64(n) > uint64(len(rest)) {
		return nil, nil, errDirections
	}
	return rest[:n], rest[n:], nil
}

func parseDirections(plain []byte, counter uint64) (*directions, error) {
	var d directions
	if err := json.Unmarshal(plain, &d); err != nil {
		return nil, errDirections
	}
	if d.Version != directionsVersion {
		return nil, fmt.Errorf("directions of version %d, this program knows %d", d.Version, directionsVersion)
	}
	if d.Counter != counter || len(d.Stores) > maxStores+1 {
		return nil, errDirections
	}
	known := map[string]bool{atHome: true}
	for _, l := range d.Stores {
		if l.ID == "" || known[l.ID] || l.Origin == "" || len(l.UserID) != keys.UserIDSize || len(l.Secret) != secretSize {
			return nil, errDirections
		}
		known[l.ID] = true
	}
	if !known[d.At] || d.Moving != "" && !known[d.Moving] || d.Root != nil && len(d.Root) != keys.RootSize {
		return nil, errDirections
	}
	return &d, nil
}
