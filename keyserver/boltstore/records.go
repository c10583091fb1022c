package boltstore

import (
	"encoding/json"
	"fmt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// decode reads a record of either format; nil if there is none.
func decode[T any](v []byte, read func(*decoder, *T)) (*T, error) {
	if v == nil {
		return nil, nil
	}
	r := new(T)
	d, binary := newDecoder(v)
	if !binary {
		if err := json.Unmarshal(v, r); err != nil {
			return nil, fmt.Errorf("store is damaged: %w", err)
		}
		return r, nil
	}
	read(d, r)
	return r, d.end()
}

func encodeSession(s *keyserver.Session) ([]byte, error) {
	e := newEncoder(256)
	e.fixed(s.ID[:])
	e.fixed(s.User[:])
	e.text(s.Device.Name)
	e.octets(s.Device.Key)
	e.truth(s.Recovering)
	if err := e.time(s.Created); err != nil {
		return nil, err
	}
	if err := e.time(s.Used); err != nil {
		return nil, err
	}
	e.num(s.Generation)
	e.fixed(s.Token[:])
	e.fixed(s.Previous[:])
	e.octets(s.Successor)
	return e.b, nil
}

func decodeSession(d *decoder, s *keyserver.Session) {
	d.fixed(s.ID[:])
	d.fixed(s.User[:])
	s.Device.Name = d.text()
	s.Device.Key = d.octets()
	s.Recovering = d.truth()
	s.Created = d.time()
	s.Used = d.time()
	s.Generation = d.num()
	d.fixed(s.Token[:])
	d.fixed(s.Previous[:])
	s.Successor = d.octets()
}

func encodeAccount(a *keyserver.Account) ([]byte, error) {
	e := newEncoder(160)
	e.account(a.Account)
	e.fixed(a.User[:])
	e.octets(a.IdentityKey)
	e.num(uint64(len(a.Rotations)))
	for i := range a.Rotations {
		r := &a.Rotations[i]
		e.octets(r.Previous)
		e.octets(r.Next)
		e.num(r.Time)
		e.octets(r.Signature)
	}
	e.num(uint64(a.ProofLevel))
	err := e.time(a.Created) // before e.b is looked at
	return e.b, err
}

func decodeAccount(d *decoder, a *keyserver.Account) {
	a.Account = d.account()
	d.fixed(a.User[:])
	a.IdentityKey = d.octets()
	for n := d.num(); n > 0 && !d.failed; n-- {
		var r keyapi.Rotation
		r.Previous, r.Next = d.octets(), d.octets()
		r.Time = d.num()
		r.Signature = d.octets()
		a.Rotations = append(a.Rotations, r)
	}
	a.ProofLevel = int(d.num())
	a.Created = d.time()
}

func encodeConversation(c *keyserver.Conversation) []byte {
	e := newEncoder(160)
	e.fixed(c.ID[:])
	e.num(uint64(c.Kind))
	e.num(uint64(len(c.Pair)))
	for _, a := range c.Pair {
		e.account(a)
	}
	e.octets(c.Group)
	e.num(c.Epoch)
	e.octets(c.TokenHash)
	return e.b
}

func decodeConversation(d *decoder, c *keyserver.Conversation) {
	d.fixed(c.ID[:])
	c.Kind = keyapi.Kind(d.num())
	for n := d.num(); n > 0 && !d.failed; n-- {
		c.Pair = append(c.Pair, d.account())
	}
	c.Group = d.octets()
	c.Epoch = d.num()
	c.TokenHash = d.octets()
}

// encodeEntry leaves out what is kept elsewhere; see inboxEntry.
func encodeEntry(i *inboxEntry) []byte {
	e := newEncoder(192)
	e.text(i.Type)
	e.octets(i.Conversation)
	e.num(uint64(i.Kind))
	e.octets(i.Group)
	e.num(i.Epoch)
	e.account(i.Sender)
	e.fixed(i.From[:])
	e.num(i.Blob)
	e.num(uint64(i.Size))
	return e.b
}

func decodeEntry(d *decoder, i *inboxEntry) {
	i.Type = d.text()
	i.Conversation = d.octets()
	i.Kind = keyapi.Kind(d.num())
	i.Group = d.octets()
	i.Epoch = d.num()
	i.Sender = d.account()
	d.fixed(i.From[:])
	i.Blob = d.num()
	i.Size = int64(d.num())
}
