package mailseal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"
)

// encryptWithKey writes an age v1 file (C2SP age) with our header under a given
// file key: what only a member with its own program can do.
func encryptWithKey(key FileKey, content []byte) ([]byte, error) {
	macKey, err := hkdf.Key(sha256.New, key[:], nil, "header", 32)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write([]byte(ageHeader[:len(ageHeader)-1]))
	var out bytes.Buffer
	out.WriteString(ageHeader + base64.RawStdEncoding.EncodeToString(mac.Sum(nil)) + "\n")
	nonce := bytes.Repeat([]byte{7}, 16)
	out.Write(nonce)
	payloadKey, err := hkdf.Key(sha256.New, key[:], nonce, "payload", 32)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.New(payloadKey)
	if err != nil {
		return nil, err
	}
	for i := uint64(0); ; i++ {
		n := min(len(content), ChunkSize)
		var counter [12]byte
		binary.BigEndian.PutUint64(counter[3:], i)
		if n == len(content) {
			counter[11] = 1
		}
		out.Write(aead.Seal(nil, counter[:], content[:n], nil))
		if content = content[n:]; len(content) == 0 {
			return out.Bytes(), nil
		}
	}
}
