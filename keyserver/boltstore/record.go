package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Records that each request reads are written in binary, since format 2 of the
// file: JSON of a session takes longer to read than all else about it. The first
// octet says which layout follows; a record of format 1 is JSON and begins with
// a brace. Numbers are varints; octets have their length plus one in front, so
// that none and nothing are told apart.
const recordBinary = 1

var errRecord = errors.New("store is damaged: record cannot be read")

type encoder struct{ b []byte }

func newEncoder(size int) *encoder { return &encoder{append(make([]byte, 0, size), recordBinary)} }

func (e *encoder) num(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) fixed(b []byte) { e.b = append(e.b, b...) }

func (e *encoder) octets(b []byte) {
	if b == nil {
		e.num(0)
		return
	}
	e.num(uint64(len(b)) + 1)
	e.b = append(e.b, b...)
}

func (e *encoder) text(s string) {
	e.num(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) truth(b bool) {
	n := byte(0)
	if b {
		n = 1
	}
	e.b = append(e.b, n)
}

// time keeps the zone, as JSON does.
func (e *encoder) time(t time.Time) error {
	b, err := t.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	e.text(string(b))
	return nil
}

func (e *encoder) account(a keyapi.Account) {
	e.text(a.Platform)
	e.text(a.ID)
}

// decoder reads what encoder wrote. After an error everything reads as zero.
type decoder struct {
	b      []byte // what it gives out are parts of it
	failed bool
}

// newDecoder copies the record, which is good for its transaction only. binary
// is false where it is JSON.
func newDecoder(v []byte) (d *decoder, binary bool) {
	if len(v) == 0 || v[0] != recordBinary {
		return nil, false
	}
	return &decoder{b: bytes.Clone(v[1:])}, true
}

func (d *decoder) fail() { d.b, d.failed = nil, true }

func (d *decoder) num() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

// take gives the next n octets; whoever appends to them gets others.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	part := d.b[:n:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) fixed(into []byte) { copy(into, d.take(uint64(len(into)))) }

func (d *decoder) octets() []byte {
	n := d.num()
	if n == 0 {
		return nil
	}
	return d.take(n - 1)
}

func (d *decoder) text() string { return string(d.take(d.num())) }

func (d *decoder) truth() bool {
	b := d.take(1)
	return len(b) == 1 && b[0] == 1
}

func (d *decoder) time() (t time.Time) {
	if b := d.take(d.num()); !d.failed && t.UnmarshalBinary(b) != nil {
		d.fail()
	}
	return t
}

func (d *decoder) account() keyapi.Account {
	platform := d.text()
	return keyapi.Account{Platform: platform, ID: d.text()}
}

// end tells whether the record was read to its end, and nothing beyond.
func (d *decoder) end() error {
	if d.failed || len(d.b) > 0 {
		return errRecord
	}
	return nil
}
