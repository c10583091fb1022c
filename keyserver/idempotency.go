package keyserver

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// A route that does something new each time it is asked takes an
// Idempotency-Key. Its answer is kept in the transaction that does the work, so
// it is there for every process on the store and after a crash, if and only if
// the work was done. Refusals are not kept.
const (
	answerLifetime = 24 * time.Hour
	answersKept    = 64 // of one owner; the one that ends first makes room
	minKeySize     = 16
	maxKeySize     = 128
)

// repeatable is the input of a route that takes an Idempotency-Key.
type repeatable[T any] struct {
	RawBody []byte
	Body    T
	Key     string `header:"Idempotency-Key" doc:"16 to 128 printable ASCII characters, random. The same request again gives the same answer for 24 hours."`
}

// once is one request under its key; nil: it has none. request is an HMAC of
// everything that makes it the same request.
type once struct {
	s          *Server
	owner, key []byte
	request    []byte
	sealingKey []byte
}

// once reads the key of a request. owner is who asks: a user id, or a name
// where nobody is signed in; parts are what was asked.
func (s *Server) once(_ context.Context, key, route string, owner []byte, parts ...[]byte) (*once, error) {
	if key == "" {
		return nil, nil
	}
	if len(key) < minKeySize || len(key) > maxKeySize {
		return nil, invalid("Idempotency-Key must have 16 to 128 characters")
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return nil, invalid("Idempotency-Key must be of printable ASCII")
		}
	}
	name := s.hidden("idempotency key", route+"\x00"+key)
	m := hmac.New(sha256.New, s.hideKey)
	m.Write([]byte("request\x00"))
	m.Write(name)
	for _, p := range parts {
		fmt.Fprintf(m, "%d\x00", len(p))
		m.Write(p)
	}
	// The octets of the key are not in the store, nor is the pepper: what was
	// answered, tokens included, opens for who asks again only.
	sealing, err := hkdf.Key(sha256.New, append([]byte(key), s.hideKey...), name, "cloudmls/1 keyserver kept answer", 32)
	if err != nil {
		return nil, err
	}
	return &once{s: s, owner: s.hidden("owner of answers", string(owner)), key: name, request: m.Sum(nil), sealingKey: sealing}, nil
}

func (o *once) cipher() (cipher.AEAD, error) {
	b, err := aes.NewCipher(o.sealingKey)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(b)
}

// replay fills answer, if this request was answered before. Another request
// under the same key is a conflict.
func (o *once) replay(r Notes, answer any) (bool, error) {
	if o == nil {
		return false, nil
	}
	n, err := r.Note(NoteAnswer, o.owner, o.key, o.s.Now())
	if err != nil || n == nil {
		return false, err
	}
	if len(n.Value) < sha256.Size {
		return false, fmt.Errorf("store is damaged: kept answer of %d octets", len(n.Value))
	}
	if !hmac.Equal(n.Value[:sha256.Size], o.request) {
		return false, conflict(keyapi.CodeKeyReused, "the Idempotency-Key was used with another request")
	}
	a, err := o.cipher()
	if err != nil {
		return false, err
	}
	b, err := a.Open(nil, nil, n.Value[sha256.Size:], o.request)
	if err != nil {
		return false, fmt.Errorf("open kept answer: %w", err)
	}
	return true, json.Unmarshal(b, answer)
}

// keep stores the answer in the transaction that did the work.
func (o *once) keep(w Writer, answer any) error {
	if o == nil {
		return nil
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	a, err := o.cipher()
	if err != nil {
		return err
	}
	now := o.s.Now()
	if err := o.makeRoom(w, now); err != nil {
		return err
	}
	if err := w.Expire(now, expireAtOnce); err != nil {
		return err
	}
	sealed := a.Seal(append([]byte(nil), o.request...), nil, b, o.request)
	return w.PutNote(&Note{Kind: NoteAnswer, Owner: o.owner, Key: o.key, Value: sealed, Expires: now.Add(answerLifetime)})
}

func (o *once) makeRoom(w Writer, now time.Time) error {
	have, err := w.NotesOf(NoteAnswer, o.owner, now, answersKept)
	if err != nil || len(have) < answersKept {
		return err
	}
	oldest := 0
	for i := range have {
		if have[i].Expires.Before(have[oldest].Expires) {
			oldest = i
		}
	}
	return w.DeleteNote(NoteAnswer, o.owner, have[oldest].Key)
}
