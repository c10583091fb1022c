package keyapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Places of a user's objects, as one store sees them.
const (
	PlaceHere     = "here"     // this store has them; the usual case
	PlaceLeaving  = "leaving"  // they are read here and written nowhere until it is decided
	PlaceGone     = "gone"     // another store has them
	PlaceArriving = "arriving" // they are being copied to this store
)

// MaxMove is the highest number of a move.
const MaxMove uint64 = 1<<63 - 1

// StorePlace is what a store says of the user's objects.
type StorePlace struct {
	Place string `json:"place"`
	// Move is the number of the move that the place is of. Here: of the move that
	// opened these objects here, until they are in use; 0 otherwise.
	Move      uint64 `json:"move,omitempty"`
	To        string `json:"to,omitempty"` // leaving, gone: URL of the other store; arriving: that of an earlier move
	Objects   int    `json:"objects"`
	Bytes     int64  `json:"bytes"`
	IndexHash []byte `json:"index_hash"` // IndexHash of all objects here
	// Directions are what the user's devices left here last; nil: nothing.
	Directions *Directions `json:"directions,omitempty"`
}

// Directions are octets that a user's devices leave at the store that takes the
// tokens of the server which signs them in, wherever the objects are: sealed to
// what the user signs in with and to the devices, they say which store has the
// objects and how to sign in there.
type Directions struct {
	Counter uint64 `json:"counter"` // one more with each change; a change names the next one
	Data    []byte `json:"data"`    // 1 octet at least: that there is nothing to say is sealed as well
}

// MaxDirections bounds Directions.Data, in octets.
const MaxDirections = 96 << 10

// Changes of StoreMove.
const (
	MoveLeave   = "leave"   // here → leaving; To is needed
	MoveStay    = "stay"    // leaving → here; before leave: the move never begins
	MoveGo      = "go"      // leaving → gone; IndexHash is needed; the objects are deleted
	MoveArrive  = "arrive"  // here, without objects, gone, or arriving by an earlier move → arriving
	MoveOpen    = "open"    // arriving → here, for reading; IndexHash is needed
	MoveUse     = "use"     // here, opened → here, for writing: the old store has let go
	MoveAbandon = "abandon" // arriving, or opened and not in use → gone; what has arrived is deleted
)

// StoreMove changes the place of the user's objects. The same change of the same
// move again changes nothing and succeeds; a change of a move that is over is a
// conflict.
type StoreMove struct {
	Change string `json:"change"`
	// Move is the number of the move, 1 to MaxMove. The user's devices number
	// moves ascending: a higher number is a later move.
	Move      uint64 `json:"move"`
	To        string `json:"to,omitempty"`
	IndexHash []byte `json:"index_hash,omitempty"` // of all objects: what leaves and what has arrived are the same
	// Objects and Bytes tell, to arrive, how much is coming; a store refuses at once
	// what it has no room for. 0: not told.
	Objects int   `json:"objects,omitempty"`
	Bytes   int64 `json:"bytes,omitempty"`
}

// StoreImport brings objects, with the counters that they have, to a store
// where they are arriving by this move. An object that is there already must be
// the same.
type StoreImport struct {
	Move    uint64   `json:"move"`
	Objects []Object `json:"objects"`
}

// IndexHash is SHA-256 over the versions of all objects of a user, ordered by
// id: id, counter in eight octets, big-endian, and hash of each.
func IndexHash(objects []ObjectVersion) []byte {
	sorted := slices.Clone(objects)
	slices.SortFunc(sorted, func(a, b ObjectVersion) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	h := sha256.New()
	h.Write([]byte("cloudmls/1 index\x00"))
	for _, o := range sorted {
		h.Write(o.ID[:])
		h.Write(binary.BigEndian.AppendUint64(nil, o.Counter))
		h.Write(o.Hash)
	}
	return h.Sum(nil)
}
