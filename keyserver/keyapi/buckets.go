package keyapi

import (
	"encoding/hex"
	"fmt"
)

// BucketCount is how many buckets a user's objects are in.
const BucketCount = 256

// Bucket tells which bucket an object is in: its id's second octet.
func (id ObjectID) Bucket() int { return int(id[1]) }

// Buckets is a set of buckets, the zero value an empty one. Bucket i is the bit of
// value 0x80>>(i%8) in octet i/8.
type Buckets [BucketCount / 8]byte

// Add puts bucket i, from 0 to 255, into the set.
func (b *Buckets) Add(i int) { b[i/8] |= 0x80 >> (i % 8) }

// Has tells whether bucket i, from 0 to 255, is in the set.
func (b *Buckets) Has(i int) bool { return b[i/8]&(0x80>>(i%8)) != 0 }

// String gives 64 hexadecimal digits, as they stand in GET /v1/objects?buckets=.
func (b *Buckets) String() string { return hex.EncodeToString(b[:]) }

// ParseBuckets reads what String gives.
func ParseBuckets(s string) (*Buckets, error) {
	b := &Buckets{}
	if len(s) != 2*len(b) {
		return nil, fmt.Errorf("a set of buckets has %d hexadecimal digits", 2*len(b))
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return nil, fmt.Errorf("a set of buckets: %w", err)
	}
	return b, nil
}
