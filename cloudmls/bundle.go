package cloudmls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// A bundle is several archive records of one group in one object. Members who
// stay the same from one epoch to the next are in it once:
//
//	uint8  version = 2;
//	uint32 count;
//	struct {
//	  uint64 opened;                /* milliseconds since 1970 */
//	  uint32 length; opaque record[length];    /* the archive record without its roster */
//	  uint32 left;  uint32 leaf[left];         /* who is not in the roster any more */
//	  uint32 set;   Member set[set];           /* who is in it anew, or differently */
//	} epochs[count];                /* ascending, without gaps */
//	struct {
//	  uint32 leaf;
//	  uint16 length; opaque signature_key[length];
//	  uint16 length; opaque identity[length];  /* of the basic credential */
//	} Member;
//
// The roster before the first epoch is empty; leaves are ascending.
type bundle struct {
	first, last uint64
	entries     []bundleEntry
}

// bundleEntry is one epoch of a bundle; its slices lie in the bundle's octets.
type bundleEntry struct {
	opened time.Time
	head   []byte
	left   []mls.LeafIndex
	set    []mls.Member
}

const (
	bundleVersion = 2
	// maxBundle is how many epochs are put into one bundle, maxBundleSize its
	// size in octets, a single larger record apart.
	maxBundle     = 256
	maxBundleSize = 1 << 20
)

var errBundle = errors.New("bundle of archive records is malformed")

// encodeBundle packs records of consecutive epochs.
func encodeBundle(records []*epochRecord) ([]byte, error) {
	b := binary.BigEndian.AppendUint32([]byte{bundleVersion}, uint32(len(records)))
	before := map[mls.LeafIndex]mls.Member{}
	for i, r := range records {
		if i > 0 && r.archive.Epoch() != records[i-1].archive.Epoch()+1 {
			return nil, fmt.Errorf("%w: epochs with gaps", errBundle)
		}
		b = binary.BigEndian.AppendUint64(b, uint64(r.opened.UnixMilli()))
		head := r.archive.MarshalWithoutRoster()
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(head))), head...)
		now := map[mls.LeafIndex]mls.Member{}
		var set []mls.Member
		for _, m := range r.archive.Members() {
			if m.Credential.Type != mls.CredentialBasic || len(m.SignatureKey) > 0xffff || len(m.Credential.Identity) > 0xffff {
				return nil, fmt.Errorf("%w: leaf %d is not one of ours", errBundle, m.Leaf)
			}
			now[m.Leaf] = m
			if old, ok := before[m.Leaf]; !ok || !bytes.Equal(old.SignatureKey, m.SignatureKey) || !old.Credential.Equal(m.Credential) {
				set = append(set, m)
			}
		}
		left := slices.DeleteFunc(slices.Sorted(maps.Keys(before)), func(l mls.LeafIndex) bool { _, ok := now[l]; return ok })
		b = binary.BigEndian.AppendUint32(b, uint32(len(left)))
		for _, l := range left {
			b = binary.BigEndian.AppendUint32(b, uint32(l))
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(set)))
		for _, m := range set {
			b = binary.BigEndian.AppendUint32(b, uint32(m.Leaf))
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(m.SignatureKey))), m.SignatureKey...)
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(m.Credential.Identity))), m.Credential.Identity...)
		}
		before = now
	}
	return b, nil
}

// bundleReader takes octets off the front; what is not there is noted.
type bundleReader struct {
	b   []byte
	bad bool
}

func (r *bundleReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *bundleReader) uint(size int) uint64 {
	var x uint64
	for _, o := range r.take(size) {
		x = x<<8 | uint64(o)
	}
	return x
}

// count reads a number of elements that take at least size octets each, so that
// a wrong one costs nothing.
func (r *bundleReader) count(size int) int {
	n := r.uint(4)
	if n*uint64(size) > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return 0
	}
	return int(n)
}

// decodeBundle takes a bundle apart; the octets belong to it afterwards.
func decodeBundle(b []byte) (*bundle, error) {
	r := &bundleReader{b: b}
	if version := r.uint(1); version != bundleVersion {
		return nil, fmt.Errorf("%w: version %d", errBundle, version)
	}
	x := &bundle{}
	for range r.count(20) {
		var e bundleEntry
		e.opened = time.UnixMilli(int64(r.uint(8)))
		e.head = r.take(int(r.uint(4)))
		for range r.count(4) {
			e.left = append(e.left, mls.LeafIndex(r.uint(4)))
		}
		for range r.count(8) {
			m := mls.Member{Leaf: mls.LeafIndex(r.uint(4))}
			m.SignatureKey = r.take(int(r.uint(2)))
			m.Credential = mls.Credential{Type: mls.CredentialBasic, Identity: r.take(int(r.uint(2)))}
			e.set = append(e.set, m)
		}
		x.entries = append(x.entries, e)
	}
	if r.bad || len(r.b) != 0 || len(x.entries) == 0 {
		return nil, errBundle
	}
	one, err := x.record(0)
	if err != nil {
		return nil, err
	}
	x.first = uint64(one.archive.Epoch())
	if x.last = x.first + uint64(len(x.entries)-1); x.last < x.first {
		return nil, errBundle
	}
	return x, nil
}

// record puts the i-th record together.
func (x *bundle) record(i int) (*epochRecord, error) {
	roster := map[mls.LeafIndex]mls.Member{}
	for _, e := range x.entries[:i+1] {
		for _, l := range e.left {
			if _, ok := roster[l]; !ok {
				return nil, errBundle
			}
			delete(roster, l)
		}
		for _, m := range e.set {
			roster[m.Leaf] = m
		}
	}
	members := slices.SortedFunc(maps.Values(roster), func(a, b mls.Member) int { return int(int64(a.Leaf) - int64(b.Leaf)) })
	a, err := mls.ParseArchiveRecordWith(x.entries[i].head, members)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBundle, err)
	}
	return &epochRecord{opened: x.entries[i].opened, archive: a}, nil
}

// epoch gives the record of an epoch of the bundle.
func (x *bundle) epoch(n uint64) (*epochRecord, error) {
	if n < x.first || n > x.last {
		return nil, fmt.Errorf("%w: it does not hold epoch %d", errBundle, n)
	}
	r, err := x.record(int(n - x.first))
	if err == nil && uint64(r.archive.Epoch()) != n {
		err = errBundle
	}
	return r, err
}

// records gives all of them from an epoch on.
func (x *bundle) records(from uint64) ([]*epochRecord, error) {
	var all []*epochRecord
	for n := max(from, x.first); n <= x.last; n++ {
		r, err := x.epoch(n)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// pack encodes records and makes sure that nothing of them is lost, before what
// they are packed from is deleted.
func pack(records []*epochRecord) ([]byte, error) {
	b, err := encodeBundle(records)
	if err != nil {
		return nil, err
	}
	x, err := decodeBundle(bytes.Clone(b))
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		again, err := x.epoch(uint64(r.archive.Epoch()))
		if err != nil {
			return nil, err
		}
		want, err := encodeEpoch(r.opened, r.archive)
		if err != nil {
			return nil, err
		}
		got, err := encodeEpoch(again.opened, again.archive)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(got, want) {
			return nil, fmt.Errorf("%w: epoch %d is not what was packed", errBundle, r.archive.Epoch())
		}
	}
	return b, nil
}
