package keyclient

import (
	"encoding/json"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

const (
	mediaJSON = "application/json"
	mediaCBOR = "application/cbor"
)

// encoding is how bodies travel. Members that are not known are ignored.
type encoding struct {
	media  string
	encode func(any) ([]byte, error)
	decode func([]byte, any) error
}

func jsonEncoding() encoding { return encoding{mediaJSON, json.Marshal, json.Unmarshal} }

func cborEncoding() (encoding, error) {
	enc, err := cbor.EncOptions{
		Sort: cbor.SortCoreDeterministic, Time: cbor.TimeRFC3339NanoUTC, TimeTag: cbor.EncTagRequired, IndefLength: cbor.IndefLengthForbidden,
	}.EncMode()
	if err != nil {
		return encoding{}, fmt.Errorf("CBOR: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 16, MaxArrayElements: 1 << 20, MaxMapPairs: 256,
		IndefLength: cbor.IndefLengthForbidden, TimeTag: cbor.DecTagRequired, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		return encoding{}, fmt.Errorf("CBOR: %w", err)
	}
	return encoding{mediaCBOR, enc.Marshal, dec.Unmarshal}, nil
}
