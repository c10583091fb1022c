package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	headVersion = 1
	bucketCount = keyapi.BucketCount
	// maxHistory is how many earlier heads a head names. A device that was away
	// for no more than that many changes can tell a later head from a fork.
	maxHistory = 64
	// maxRoots is how many versions of ROOT a head names. A device that was away
	// for more of them cannot tell whether the newest follows the one it knows:
	// see follow.
	maxRoots = 1024
)

// head is the plaintext of the head object. Its counter and the hash of the
// head before it stand in the envelope's header.
type head struct {
	history [][32]byte // hashes of earlier heads, newest first
	roots   []rootMark // oldest first
	buckets [bucketCount][32]byte
}

// rootMark names a version of ROOT.
type rootMark struct {
	version uint32
	since   uint64   // counter of the first head under it
	id      [32]byte // derived from the root
}

var errHead = errors.New("head is malformed")

func (h *head) marshal() []byte {
	b := []byte{headVersion, byte(len(h.history))}
	for _, x := range h.history {
		b = append(b, x[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.roots)))
	for _, r := range h.roots {
		b = binary.BigEndian.AppendUint32(b, r.version)
		b = binary.BigEndian.AppendUint64(b, r.since)
		b = append(b, r.id[:]...)
	}
	for i := range h.buckets {
		b = append(b, h.buckets[i][:]...)
	}
	return b
}

func parseHead(b []byte) (*head, error) {
	if len(b) < 2 || b[0] != headVersion || int(b[1]) > maxHistory {
		return nil, errHead
	}
	h := &head{history: make([][32]byte, b[1])}
	b = b[2:]
	if len(b) < 32*len(h.history)+2 {
		return nil, errHead
	}
	for i := range h.history {
		b = b[copy(h.history[i][:], b):]
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if n == 0 || n > maxRoots || len(b) != 44*n+32*bucketCount {
		return nil, errHead
	}
	h.roots = make([]rootMark, n)
	for i := range h.roots {
		r := &h.roots[i]
		r.version, r.since = binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])
		copy(r.id[:], b[12:])
		b = b[44:]
	}
	for i := range h.buckets {
		b = b[copy(h.buckets[i][:], b):]
	}
	return h, nil
}

// addRoot names another version of ROOT. Where there is no room the oldest mark
// goes, but none of a root that is in use: all devices look for those.
func (h *head) addRoot(m rootMark, used map[uint32][]byte) error {
	roots := append(slices.Clone(h.roots), m)
	if len(roots) > maxRoots {
		i := slices.IndexFunc(roots, func(o rootMark) bool { return used[o.version] == nil })
		if i < 0 {
			return errors.New("too many root keys are in use: what lies under the old ones must be sealed anew first")
		}
		roots = slices.Delete(roots, i, i+1)
	}
	h.roots = roots
	return nil
}

// version is what the head vouches for: one object at one counter. Of a sender
// object it vouches for the existence alone: counter and hash are zero.
type version struct {
	id      keyapi.ObjectID
	counter uint64
	hash    [32]byte
}

func (v version) exists() version {
	if typeOf(v.id) == TypeSender {
		return version{id: v.id}
	}
	return v
}

// view is the set of objects under one head. It never changes.
type view struct {
	counter uint64   // of the head
	hash    [32]byte // of the head's envelope
	head    *head
	objects [bucketCount][]version // each ordered by id
}

// bucketOf spreads objects; the first octet is the type.
func bucketOf(id keyapi.ObjectID) int { return id.Bucket() }

func compareIDs(v version, id keyapi.ObjectID) int { return bytes.Compare(v.id[:], id[:]) }

func bucketHash(i int, vs []version) [32]byte {
	h := sha256.New()
	h.Write([]byte("cloudmls/1 bucket"))
	h.Write([]byte{byte(i)})
	for _, v := range vs {
		h.Write(v.id[:])
		h.Write(binary.BigEndian.AppendUint64(nil, v.counter))
		h.Write(v.hash[:])
	}
	return [32]byte(h.Sum(nil))
}

func (v *view) find(id keyapi.ObjectID) (version, bool) {
	b := v.objects[bucketOf(id)]
	i, ok := slices.BinarySearchFunc(b, id, compareIDs)
	if !ok {
		return version{}, false
	}
	return b[i], true
}

// list gives the versions of all objects of a type.
func (v *view) list(t Type) []version {
	var out []version
	for i := range v.objects {
		for _, o := range v.objects[i] {
			if typeOf(o.id) == t {
				out = append(out, o)
			}
		}
	}
	slices.SortFunc(out, func(a, b version) int { return compareIDs(a, b.id) })
	return out
}

// next is the view after a change, its head not sealed yet: counter and
// bucket hashes are set, hash is not.
func (v *view) next(put []version, del []keyapi.ObjectID) *view {
	n := &view{counter: v.counter + 1, objects: v.objects}
	h := head{roots: v.head.roots, buckets: v.head.buckets}
	if v.counter > 0 {
		h.history = append([][32]byte{v.hash}, v.head.history...)
		h.history = h.history[:min(len(h.history), maxHistory)]
	}
	touched := map[int]bool{}
	own := func(id keyapi.ObjectID) int { // the bucket, no longer shared with v
		i := bucketOf(id)
		if !touched[i] {
			touched[i] = true
			n.objects[i] = slices.Clone(n.objects[i])
		}
		return i
	}
	for _, p := range put {
		i := own(p.id)
		at, ok := slices.BinarySearchFunc(n.objects[i], p.id, compareIDs)
		if ok {
			n.objects[i][at] = p.exists()
		} else {
			n.objects[i] = slices.Insert(n.objects[i], at, p.exists())
		}
	}
	for _, id := range del {
		i := own(id)
		if at, ok := slices.BinarySearchFunc(n.objects[i], id, compareIDs); ok {
			n.objects[i] = slices.Delete(n.objects[i], at, at+1)
		}
	}
	for i := range touched {
		h.buckets[i] = bucketHash(i, n.objects[i])
	}
	n.head = &h
	return n
}

// emptyView is the state before the first head.
func emptyView(root rootMark) *view {
	v := &view{head: &head{roots: []rootMark{root}}}
	for i := range v.head.buckets {
		v.head.buckets[i] = bucketHash(i, nil)
	}
	return v
}

// bucketize sorts an index of the server into buckets, the head itself left out.
// An index with one id twice, or with an id or hash that cannot be, is refused.
func bucketize(index []version) (objects [bucketCount][]version, err error) {
	for _, v := range index {
		if typeOf(v.id) == TypeHead {
			if v.id != bootstrapID(TypeHead) {
				return objects, errors.New("index has a second head")
			}
			continue
		}
		i := bucketOf(v.id)
		objects[i] = append(objects[i], v.exists())
	}
	for i := range objects {
		slices.SortFunc(objects[i], func(a, b version) int {
			return cmp.Or(compareIDs(a, b.id), cmp.Compare(a.counter, b.counter))
		})
		for j := 1; j < len(objects[i]); j++ {
			if objects[i][j].id == objects[i][j-1].id {
				return objects, errors.New("index names an object twice")
			}
		}
	}
	return objects, nil
}

// verify compares the objects with what the head says of them.
func (h *head) verify(objects *[bucketCount][]version) error {
	for i := range objects {
		if bucketHash(i, objects[i]) != h.buckets[i] {
			return &RollbackError{Reason: "objects were added, withheld, swapped or wound back behind the head"}
		}
	}
	return nil
}
