package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
	At      string `json:"at"` // id of the store that has the objects
	// Moving is the id of the store that they are moving to, Move the number of that
	// move: the counter of the directions that named it. Every step shows the
	// number, so that one of a move that was given up has no effect on a later one.
	Moving string `json:"moving,omitempty"`
	Move   uint64 `json:"move,omitempty"`
	// Copied: the new store has everything, and the old one has taken no write since.
	Copied bool `json:"copied,omitempty"`
	// Stores are those of the user's own, the latest last. One that was left
	// stays for a while: the state may come back there, with the same login.
	Stores []storeLogin `json:"stores,omitempty"`
	// Endings are moves that are over and of which something is still to be done.
	Endings []ending `json:"endings,omitempty"`
	// Root is set while a recovery is under way at a store where it may not change
	// objects: the new password opens it here, until it does there. For is whom they
	// are sealed to then, beside those whom ROOT is wrapped for.
	Root        []byte           `json:"root,omitempty"`
	RootVersion uint32           `json:"root_version,omitempty"`
	For         []keys.Recipient `json:"for,omitempty"`
	// SealedFor names all whom they are sealed to.
	SealedFor []byte `json:"sealed_for,omitempty"`
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
	// Known are the ids, in hexadecimal digits, of the devices that directions with
	// Secret were ever sealed to. Where one of them is no device of the user any more, the secret is replaced.
	Known []string `json:"known,omitempty"`
}

// ending is a move that is over. Went: it was seen through, and From may have to be
// told to delete; else it was given up, and From may have to be told to keep, and To
// to delete.
type ending struct {
	Move uint64 `json:"move"`
	From string `json:"from"`
	To   string `json:"to"`
	Went bool   `json:"went,omitempty"`
}

const (
	directionsVersion = 1
	directionsMagic   = "CMD1"
	atHome            = "home" // id of the store that takes the tokens of Config.Server
	// Bounds of what directions list.
	maxStores  = 8
	maxEndings = 16
	maxKnown   = 1024
)

var (
	errDirections = errors.New("directions to the state are malformed, or not made by a device of the user")
	errNotForUs   = fmt.Errorf("%w: they do not open on this device", errDirections)
)

func noDirections(counter uint64) *directions {
	return &directions{Version: directionsVersion, At: atHome, Counter: counter}
}

func (d *directions) clone() *directions {
	c := *d
	c.Stores = slices.Clone(d.Stores)
	for i := range c.Stores {
		c.Stores[i].Known = slices.Clone(c.Stores[i].Known)
	}
	c.Endings = slices.Clone(d.Endings)
	return &c
}

func (d *directions) login(id string) (*storeLogin, bool) {
	i := slices.IndexFunc(d.Stores, func(l storeLogin) bool { return l.ID == id })
	if i < 0 {
		return nil, false
	}
	return &d.Stores[i], true
}

// user gives the login of a user at an origin.
func (d *directions) user(origin, username string) (*storeLogin, bool) {
	i := slices.IndexFunc(d.Stores, func(l storeLogin) bool { return l.Origin == origin && l.Username == username })
	if i < 0 {
		return nil, false
	}
	return &d.Stores[i], true
}

// lists tells whether directions know a store by this id.
func (d *directions) lists(id string) bool {
	_, ok := d.login(id)
	return ok || id == atHome
}

// wentTo gives the id of the store that a move of this number led to.
func (d *directions) wentTo(move uint64) (string, bool) {
	if d.Moving != "" && d.Move == move {
		return d.Moving, true
	}
	for _, e := range d.Endings {
		if e.Move == move {
			return e.To, true
		}
	}
	return "", false
}

// add lists another store; the oldest that is not needed makes room.
func (d *directions) add(l storeLogin) {
	for _, spare := range []func(string) bool{d.needs, func(id string) bool { return id == d.At || id == d.Moving }} {
		for i := 0; len(d.Stores) >= maxStores && i < len(d.Stores); {
			if spare(d.Stores[i].ID) {
				i++
			} else {
				d.Stores = slices.Delete(d.Stores, i, i+1)
			}
		}
	}
	d.Stores = append(d.Stores, l)
	d.Endings = slices.DeleteFunc(d.Endings, func(e ending) bool { return !d.lists(e.From) || !d.lists(e.To) })
}

// needs tells whether something is, or is still to be done, at a store.
func (d *directions) needs(id string) bool {
	return id == d.At || id == d.Moving || slices.ContainsFunc(d.Endings, func(e ending) bool { return e.From == id || e.To == id })
}

// untidy names the stores at which something may be left to do of moves that are over,
// without the one that has the state. Of each move one is named, for it has two stores.
func (d *directions) untidy() (names []string) {
	for _, e := range d.Endings {
		for _, id := range []string{e.From, e.To} {
			name := "the key server"
			if l, ok := d.login(id); ok {
				name = l.Origin
			}
			if id != d.At && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// over notes a move that has ended. There is room: none is named where there is not.
func (d *directions) over(e ending) {
	d.Moving, d.Move, d.Copied = "", 0, false
	d.Endings = append(d.Endings, e)
}

// arrived notes that the move of this number was seen through. false: the directions
// do not name it.
func (d *directions) arrived(move uint64, to string) bool {
	if d.Moving != to || d.Move != move {
		return false
	}
	e := ending{Move: move, From: d.At, To: to, Went: true}
	d.At = to
	d.over(e)
	return true
}

// sealedTo notes whom directions are sealed to.
func (d *directions) sealedTo(to []keys.Recipient) {
	d.SealedFor = recipientsHash(to)
	for i := range d.Stores {
		l := &d.Stores[i]
		for _, r := range to {
			if id := hexID(r.ID); r.Kind == keys.KindDevice && !slices.Contains(l.Known, id) {
				l.Known = append(l.Known, id)
			}
		}
	}
}

func hexID(id [16]byte) string { return hex.EncodeToString(id[:]) }

// knownToAll makes a login one that somebody else knows, whoever that is.
const knownToAll = "*"

// recipientsHash names a set of recipients.
func recipientsHash(list []keys.Recipient) []byte {
	var all []string
	for _, r := range list {
		all = append(all, string(byte(r.Kind))+string(r.ID[:])+string(r.Public)+string(r.Authenticator))
	}
	slices.Sort(all)
	h := sha256.New()
	for _, x := range slices.Compact(all) {
		sum := sha256.Sum256([]byte(x))
		h.Write(sum[:])
	}
	return h.Sum(nil)
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
	next := d.clone()
	next.Counter = counter
	plain, err := json.Marshal(next)
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
	return nil, errNotForUs
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
