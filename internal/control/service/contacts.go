package service

import (
	"bytes"
	"context"
	"crypto/ed25519"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/control"
)

// Contacts implements control.Service.
func (s *service) Contacts(ctx context.Context, account string) ([]control.Contact, error) {
	self, err := accountOf(account)
	if err != nil {
		return nil, err
	}
	all, err := s.o.Client.Contacts(ctx, self)
	if err != nil {
		return nil, s.failed(err)
	}
	out := make([]control.Contact, len(all))
	for i := range all {
		out[i] = *contact(&all[i])
	}
	return out, nil
}

// Contact implements control.Service.
func (s *service) Contact(ctx context.Context, account, address string) (*control.Contact, error) {
	self, other, err := pairOf(account, address)
	if err != nil {
		return nil, err
	}
	c, err := s.o.Client.Contact(ctx, self, other)
	if err != nil {
		return nil, s.failed(err)
	}
	return contact(&c), nil
}

// ContactCode implements control.Service.
func (s *service) ContactCode(ctx context.Context, account, address string) (*control.ContactCode, error) {
	self, other, err := pairOf(account, address)
	if err != nil {
		return nil, err
	}
	code, err := s.o.Client.ComparisonCode(ctx, self, other)
	if err != nil {
		return nil, s.failed(err)
	}
	return &control.ContactCode{Address: other.ID, Code: code.String(), QR: code.Bytes(), Key: code.Key()}, nil
}

// VerifyContact implements control.Service.
func (s *service) VerifyContact(ctx context.Context, account, address, code string, key []byte) (*control.Contact, error) {
	self, other, err := pairOf(account, address)
	if err != nil {
		return nil, err
	}
	switch {
	case code != "" && len(key) > 0:
		return nil, &control.Error{Code: control.CodeInvalid, Message: "give the code or the key that was compared, not both"}
	case code != "":
		err = s.o.Client.Verify(ctx, self, other, code)
	case len(key) == ed25519.PublicKeySize:
		err = s.o.Client.VerifyKey(ctx, self, other, key)
	default:
		return nil, &control.Error{Code: control.CodeInvalid, Message: "the code that was compared is missing", Hint: "cloudmls contact code " + other.ID}
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return s.pinned(ctx, self, other)
}

// UnverifyContact implements control.Service.
func (s *service) UnverifyContact(ctx context.Context, account, address string) (*control.Contact, error) {
	self, other, err := pairOf(account, address)
	if err != nil {
		return nil, err
	}
	if err := s.o.Client.Unverify(ctx, self, other); err != nil {
		return nil, s.failed(err)
	}
	return s.pinned(ctx, self, other)
}

// AcceptContact implements control.Service. Only a key that is known as the
// contact's new one is accepted: what was typed wrongly would block them.
func (s *service) AcceptContact(ctx context.Context, account, address string, key []byte) (*control.Contact, error) {
	self, other, err := pairOf(account, address)
	if err != nil {
		return nil, err
	}
	now, err := s.o.Client.Contact(ctx, self, other)
	if err != nil {
		return nil, s.failed(err)
	}
	switch {
	case bytes.Equal(now.IdentityKey, key) && now.State != cloudmls.ContactChanged:
		return contact(&now), nil // accepted already
	case !bytes.Equal(now.IdentityKey, key) && !bytes.Equal(now.NewKey, key) || len(key) != ed25519.PublicKeySize:
		return nil, &control.Error{Code: control.CodeMismatch, Message: "that is not the key which " + other.ID + " has now; nothing was accepted",
			Hint: "look at it again: cloudmls contact show " + other.ID}
	}
	if err := s.o.Client.AcceptIdentity(ctx, self, other, key); err != nil {
		return nil, s.failed(err)
	}
	return s.pinned(ctx, self, other)
}

// pinned gives a contact from the local state.
func (s *service) pinned(ctx context.Context, self, other cloudmls.Account) (*control.Contact, error) {
	all, err := s.o.Client.Contacts(ctx, self)
	if err != nil {
		return nil, s.failed(err)
	}
	for i := range all {
		if all[i].Account == other {
			return contact(&all[i]), nil
		}
	}
	return nil, s.failed(cloudmls.ErrNoContact)
}

func contact(c *cloudmls.Contact) *control.Contact {
	return &control.Contact{
		Address: c.Account.ID, State: string(c.State), Key: c.IdentityKey, Since: c.Since, VerifiedAt: c.VerifiedAt,
		NewKey: c.NewKey, NewConfirmed: c.NewConfirmed, Confirmed: c.Confirmed,
	}
}
