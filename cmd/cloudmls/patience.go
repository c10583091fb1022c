package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cloudmls/gateway/internal/control"
)

// patience is how long people wait without a word.
const patience = 2 * time.Second

// patient is a service that says what is waited for where the key server takes
// its time.
type patient struct {
	control.Service
	w     io.Writer
	after time.Duration
}

// wait says it once, unless the work ends before.
func (p patient) wait() (end func() bool) {
	return time.AfterFunc(p.after, func() { fmt.Fprintln(p.w, "waiting for the key server ...") }).Stop
}

func (p patient) Conversation(ctx context.Context, account, id string) (*control.Conversation, error) {
	defer p.wait()()
	return p.Service.Conversation(ctx, account, id)
}

func (p patient) RemoveMembers(ctx context.Context, account, id string, members []string) (*control.Conversation, error) {
	defer p.wait()()
	return p.Service.RemoveMembers(ctx, account, id, members)
}

func (p patient) LeaveConversation(ctx context.Context, account, id string) error {
	defer p.wait()()
	return p.Service.LeaveConversation(ctx, account, id)
}

func (p patient) RenewConversation(ctx context.Context, account, id string) (*control.Conversation, error) {
	defer p.wait()()
	return p.Service.RenewConversation(ctx, account, id)
}

func (p patient) Contact(ctx context.Context, account, address string) (*control.Contact, error) {
	defer p.wait()()
	return p.Service.Contact(ctx, account, address)
}

func (p patient) ContactCode(ctx context.Context, account, address string) (*control.ContactCode, error) {
	defer p.wait()()
	return p.Service.ContactCode(ctx, account, address)
}

func (p patient) VerifyContact(ctx context.Context, account, address, code string, key []byte) (*control.Contact, error) {
	defer p.wait()()
	return p.Service.VerifyContact(ctx, account, address, code, key)
}

func (p patient) UnverifyContact(ctx context.Context, account, address string) (*control.Contact, error) {
	defer p.wait()()
	return p.Service.UnverifyContact(ctx, account, address)
}

func (p patient) AcceptContact(ctx context.Context, account, address string, key []byte) (*control.Contact, error) {
	defer p.wait()()
	return p.Service.AcceptContact(ctx, account, address, key)
}

func (p patient) Devices(ctx context.Context) ([]control.Device, error) {
	defer p.wait()()
	return p.Service.Devices(ctx)
}

func (p patient) RevokeDevice(ctx context.Context, id string) error {
	defer p.wait()()
	return p.Service.RevokeDevice(ctx, id)
}

func (p patient) ChangePassword(ctx context.Context, old, fresh control.Secret) error {
	defer p.wait()()
	return p.Service.ChangePassword(ctx, old, fresh)
}
