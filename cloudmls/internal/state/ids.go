package state

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// An object id is the type in one octet followed by 31 octets of HMAC. The
// type is in clear, so that List reads only what it is about, and so that a
// reader knows from the id alone what the head says of the object; the server
// knows the conversations and their groups from the delivery service anyway.

// bootstrapID is the id of an object that is needed before K_index is known.
func bootstrapID(t Type) keyapi.ObjectID {
	id := keyapi.ObjectID(sha256.Sum256(append([]byte("cloudmls/1 object"), byte(t))))
	id[0] = byte(t)
	return id
}

func isBootstrap(t Type) bool { return t >= TypeWrap && t <= TypeProfile }

// objectID is the id of an object of the user whose K_index this is.
func objectID(index []byte, k Key) keyapi.ObjectID {
	m := hmac.New(sha256.New, index)
	m.Write(k.marshal())
	var id keyapi.ObjectID
	m.Sum(id[:0])
	id[0] = byte(k.Type)
	return id
}

func typeOf(id keyapi.ObjectID) Type { return Type(id[0]) }

// Limits of a Key, in octets.
const (
	maxName    = 4096
	maxAccount = 4096
)

// check refuses keys that callers have no business with.
func (k Key) check() error {
	switch {
	case k.Type < TypeIdentity || k.Type > TypeHistory:
		return fmt.Errorf("object type %d is not one of a caller's", k.Type)
	case len(k.Name) > maxName:
		return fmt.Errorf("object name of %d octets", len(k.Name))
	case len(k.Account.Platform) > maxAccount || len(k.Account.ID) > maxAccount:
		return errors.New("object's account is too long")
	}
	return nil
}

// marshal is the unambiguous form that is hashed and that travels sealed.
func (k Key) marshal() []byte {
	b := []byte{byte(k.Type)}
	for _, f := range []string{k.Account.Platform, k.Account.ID, k.Name} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(f)))
		b = append(b, f...)
	}
	return b
}

var errObject = errors.New("object is malformed")

// The first octet of every object's plaintext.
const objectVersion = 1

// marshalObject is the plaintext of an object: its full key and its data.
func marshalObject(k Key, data []byte) []byte {
	return append(append([]byte{objectVersion}, k.marshal()...), data...)
}

func parseObject(b []byte) (Key, []byte, error) {
	if len(b) < 2 || b[0] != objectVersion {
		return Key{}, nil, errObject
	}
	k := Key{Type: Type(b[1])}
	b = b[2:]
	for _, f := range []*string{&k.Account.Platform, &k.Account.ID, &k.Name} {
		if len(b) < 2 {
			return Key{}, nil, errObject
		}
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n {
			return Key{}, nil, errObject
		}
		*f = string(b[2 : 2+n])
		b = b[2+n:]
	}
	return k, b, nil
}
