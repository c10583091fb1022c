package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// RecoveryAuth derives from a recovery code what the key server knows it by. It
// says nothing of the code's key pair.
func RecoveryAuth(code string, s Scope) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	secret, err := ParseRecoveryCode(code)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	h := sha256.Sum256(append([]byte("cloudmls/1 recovery code"), secret...))
	defer clear(h[:])
	auth, err := s.expand(h[:], "cloudmls/1 recovery auth", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive recovery AUTH: %w", err)
	}
	return auth, nil
}

// KDFTag authenticates the derivation of a password among the user's devices,
// under a key of PurposeSignIn: a device that pinned other parameters learns by
// it that the user, not the key server, replaced them.
func KDFTag(key []byte, s Scope, version uint8, k keyapi.KDF) []byte {
	b := s.bind([]byte("cloudmls/1 sign-in parameters"))
	b = append(b, version)
	for _, f := range [][]byte{[]byte(k.Algorithm), k.Salt} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(f)))
		b = append(b, f...)
	}
	b = binary.BigEndian.AppendUint32(b, k.Time)
	b = binary.BigEndian.AppendUint32(b, k.MemoryKiB)
	b = append(b, k.Threads)
	m := hmac.New(sha256.New, key)
	m.Write(b)
	return m.Sum(nil)
}
