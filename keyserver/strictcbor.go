package keyserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// Bodies in CBOR (RFC 8949) have the same members as in JSON; octets are byte
// strings, object ids too, times are tag 0. The limits are those of JSON.
const mediaCBOR = "application/cbor"

type cborModes struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCBOR() (*cborModes, error) {
	enc, err := cbor.EncOptions{
		Sort: cbor.SortCoreDeterministic, Time: cbor.TimeRFC3339NanoUTC, TimeTag: cbor.EncTagRequired, IndefLength: cbor.IndefLengthForbidden,
	}.EncMode()
	if err != nil {
		return nil, fmt.Errorf("CBOR: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: maxJSONDepth, MaxArrayElements: maxJSONElements, MaxMapPairs: maxJSONMembers,
		IndefLength: cbor.IndefLengthForbidden, TimeTag: cbor.DecTagRequired, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("CBOR: %w", err)
	}
	return &cborModes{enc, dec}, nil
}

func (m *cborModes) encode(w io.Writer, v any) error { return m.enc.NewEncoder(w).Encode(v) }

// decode reads one value: definite lengths, no tag but that of times, no floats, known members
// only and each at most once, nothing behind it.
func (m *cborModes) decode(data []byte, v any) error {
	rest, err := checkCBOR(data, 0)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("CBOR: more than one value")
	}
	if err := m.dec.Unmarshal(data, v); err != nil {
		return fmt.Errorf("CBOR: %w", err)
	}
	return nil
}

// Major types of RFC 8949 section 3.1.
const (
	cborUnsigned = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	_ // tags
	cborSimple
)

// checkCBOR walks over one item and gives what follows it. What the decoder
// would be lenient with is refused here: floats, simple values other than
// false, true and null, and names other than those of JSON.
func checkCBOR(b []byte, depth int) ([]byte, error) {
	if depth > maxJSONDepth {
		return nil, errors.New("CBOR: nested too deeply")
	}
	major, n, rest, err := cborHead(b)
	if err != nil {
		return nil, err
	}
	switch major {
	case cborUnsigned, cborNegative:
		return rest, nil
	case cborBytes, cborText:
		if n > uint64(len(rest)) {
			return nil, errors.New("CBOR: string without an end")
		}
		return rest[n:], nil
	case cborArray:
		if n > maxJSONElements {
			return nil, errors.New("CBOR: too many elements")
		}
		for range n {
			if rest, err = checkCBOR(rest, depth+1); err != nil {
				return nil, err
			}
		}
		return rest, nil
	case cborMap:
		return checkCBORMap(rest, n, depth)
	case cborSimple:
		if b[0] == 0xf4 || b[0] == 0xf5 || b[0] == 0xf6 {
			return rest, nil
		}
	}
	return nil, errors.New("CBOR: tags, floats and other simple values are not used here")
}

// memberTime is the only member of a request that is a time, tag 0.
const memberTime = "time"

func checkCBORMap(rest []byte, n uint64, depth int) ([]byte, error) {
	if n > maxJSONMembers {
		return nil, errors.New("CBOR: too many members")
	}
	names := make(map[string]struct{}, n)
	for range n {
		major, size, after, err := cborHead(rest)
		if err != nil {
			return nil, err
		}
		if major != cborText || size > uint64(len(after)) {
			return nil, errors.New("CBOR: a member's name must be a text string")
		}
		if err := addName(names, after[:size]); err != nil {
			return nil, err
		}
		value := after[size:]
		if string(after[:size]) == memberTime && len(value) > 1 && value[0] == 0xc0 && value[1]>>5 == cborText {
			value = value[1:]
		}
		if rest, err = checkCBOR(value, depth+1); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// cborHead reads the head of an item: major type and argument.
func cborHead(b []byte) (major int, n uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, 0, nil, errors.New("CBOR: cut short")
	}
	major, info, b := int(b[0]>>5), b[0]&31, b[1:]
	if info < 24 {
		return major, uint64(info), b, nil
	}
	if info > 27 {
		return 0, 0, nil, errors.New("CBOR: indefinite lengths are not used here")
	}
	size := 1 << (info - 24)
	if len(b) < size {
		return 0, 0, nil, errors.New("CBOR: cut short")
	}
	var full [8]byte
	copy(full[8-size:], b[:size])
	return major, binary.BigEndian.Uint64(full[:]), b[size:], nil
}
