package service_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/control/service"
	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
	"github.com/cloudmls/gateway/proxy"
)

const (
	alice = gatewaytest.Alice
	bob   = gatewaytest.Bob
	carol = gatewaytest.Carol
	oscar = gatewaytest.Oscar
)

// running is the service of a person's running gateway, over a socket; own is
// the same device without a gateway.
func running(t *testing.T, w *gatewaytest.World, name string) (remote, own control.Service) {
	t.Helper()
	d := w.Person(name).Device()
	o := service.Options{
		Client: d.Client(), Gateway: d.Gateway(), Version: "1.2.3",
		Reload: func(context.Context) (*control.Reloaded, error) {
			r, err := d.Gateway().Reload([]proxy.AccountConfig{d.Account(w.Person(name))})
			return &control.Reloaded{Added: r.Added, Removed: r.Removed, Kept: r.Kept, Notes: []string{"x"}}, err
		},
	}
	local, err := service.New(o)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := service.New(service.Options{Client: d.Client()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := control.Listen(filepath.Join(dir, control.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- control.Serve(ctx, ln, local, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	c, err := control.Dial(t.Context(), filepath.Join(dir, control.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	return c, alone
}

func wantCode(t *testing.T, what string, err error, want control.Code) {
	t.Helper()
	var e *control.Error
	if !errors.As(err, &e) || e.Code != want || e.Message == "" {
		t.Errorf("%s: %v (%s), want %s", what, err, control.CodeOf(err), want)
	}
}

func letter(id, from string, to ...string) world.Letter {
	return world.Letter{From: from, To: to, Subject: id, MessageID: "<" + id + "@x.example>", Date: "Mon, 23 Nov 2026 10:00:00 +0100", Body: id + "\n"}
}

// TestStatusAndReload: over the socket and without a gateway.
func TestStatusAndReload(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Send("alice", letter("one", alice, bob))
	remote, own := running(t, w, "alice")
	s, err := remote.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.Running || s.Version != "1.2.3" || s.Started.IsZero() || len(s.Accounts) != 1 {
		t.Fatalf("%+v", s)
	}
	a := s.Accounts[0]
	if a.Address != alice || a.Conversations != 1 || a.Contacts != 1 || a.SMTP.LastSuccess.IsZero() || a.SMTP.Server == "" ||
		a.KeyServer.State != control.SyncRunning || a.KeyServer.LastSync.IsZero() || len(a.Problems) != 0 {
		t.Errorf("%+v", a)
	}
	r, err := remote.Reload(t.Context())
	if err != nil || strings.Join(r.Kept, " ") != alice || len(r.Notes) != 1 {
		t.Errorf("Reload: %+v, %v", r, err)
	}
	if s, err := own.Status(t.Context()); err != nil || s.Running || len(s.Accounts) != 1 || s.Accounts[0].Conversations != 1 || s.Accounts[0].KeyServer.State != control.SyncStopped {
		t.Errorf("without a gateway: %+v, %v", s, err)
	}
	_, err = own.Reload(t.Context())
	wantCode(t, "Reload without a gateway", err, control.CodeNotRunning)
	for name, s := range map[string]control.Service{"gateway": remote, "own": own} {
		if _, err := s.Sync(t.Context(), "Alice@EXAMPLE.org"); err != nil {
			t.Errorf("%s: Sync: %v", name, err)
		}
		_, err = s.Sync(t.Context(), bob)
		wantCode(t, name+": Sync of a foreign account", err, control.CodeNotFound)
		_, err = s.Sync(t.Context(), "nobody")
		wantCode(t, name+": Sync of no address", err, control.CodeInvalid)
	}
	if err := w.KeyServer().Stop(); err != nil {
		t.Fatal(err)
	}
	_, err = remote.Sync(t.Context(), alice)
	wantCode(t, "Sync without a key server", err, control.CodeUnavailable)
	if _, err := remote.Conversations(t.Context(), alice); err != nil {
		t.Errorf("conversations without a key server: %v", err)
	}
}

// TestConversations: listed, shown, and people removed from a group for good.
func TestConversations(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Send("alice", letter("one", alice, bob))
	w.Send("alice", letter("two", alice, bob, carol))
	s, _ := running(t, w, "alice")
	all, err := s.Conversations(t.Context(), alice)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	group, dialog := all[0], all[1]
	if group.Kind != "group" {
		group, dialog = dialog, group
	}
	if dialog.Kind != "dialog" || strings.Join(dialog.Members, " ") != alice+" "+bob || group.Kind != "group" || len(group.Members) != 3 || group.Since.IsZero() || group.Blocked != "" {
		t.Errorf("%+v\n%+v", dialog, group)
	}
	for what, c := range map[string]struct {
		id      string
		members []string
		code    control.Code
	}{
		"no id":    {"xyz", []string{bob}, control.CodeInvalid},
		"unknown":  {strings.Repeat("1", 32), []string{bob}, control.CodeNotFound},
		"a dialog": {dialog.ID, []string{bob}, control.CodeInvalid},
		"nobody":   {group.ID, nil, control.CodeInvalid},
		"oneself":  {group.ID, []string{bob, alice}, control.CodeInvalid},
		"outsider": {group.ID, []string{bob, oscar}, control.CodeNotFound},
		"address":  {group.ID, []string{"bob"}, control.CodeInvalid},
	} {
		_, err := s.RemoveMembers(t.Context(), alice, c.id, c.members)
		wantCode(t, what, err, c.code)
	}
	if c, err := s.Conversation(t.Context(), alice, group.ID); err != nil || len(c.Members) != 3 {
		t.Errorf("after refusals: %+v, %v", c, err)
	}
	c, err := s.RemoveMembers(t.Context(), alice, group.ID, []string{"Carol@example.org"})
	if err != nil || strings.Join(c.Members, " ") != alice+" "+bob || c.ID != group.ID || c.Epoch <= group.Epoch {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestLeaveAndRenew: who leaves a group is out of it, a conversation begins anew
// with the same people, and status tells.
func TestLeaveAndRenew(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Send("alice", letter("one", alice, bob))
	w.Send("alice", letter("two", alice, bob, carol))
	w.Read("carol", "INBOX", "<two@x.example>")
	a, _ := running(t, w, "alice")
	c, _ := running(t, w, "carol")
	all, err := a.Conversations(t.Context(), alice)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	group, dialog := all[0], all[1]
	if group.Kind != "group" {
		group, dialog = dialog, group
	}
	wantCode(t, "leaving a dialog", a.LeaveConversation(t.Context(), alice, dialog.ID), control.CodeInvalid)
	wantCode(t, "leaving nothing", a.LeaveConversation(t.Context(), alice, strings.Repeat("1", 32)), control.CodeNotFound)
	if err := c.LeaveConversation(t.Context(), carol, group.ID); err != nil {
		t.Fatal(err)
	}
	if now, err := c.Conversation(t.Context(), carol, group.ID); err != nil || !now.Left {
		t.Errorf("after carol left: %+v, %v", now, err)
	}
	_, err = a.RenewConversation(t.Context(), alice, strings.Repeat("1", 32))
	wantCode(t, "renewing nothing", err, control.CodeNotFound)
	renewed, err := a.RenewConversation(t.Context(), alice, dialog.ID)
	if err != nil || renewed.ID != dialog.ID || strings.Join(renewed.Members, " ") != strings.Join(dialog.Members, " ") {
		t.Fatalf("renewed: %+v, %v", renewed, err)
	}
	w.Send("alice", letter("three", alice, bob))
	w.Read("bob", "INBOX", "<three@x.example>")
	status, err := a.Status(t.Context())
	if err != nil || len(status.Accounts) != 1 {
		t.Fatalf("%+v, %v", status, err)
	}
	noted := slices.ContainsFunc(status.Accounts[0].Notices, func(n control.Notice) bool { return n.Conversation == dialog.ID && n.Text != "" })
	if !noted {
		t.Errorf("nothing was told of the renewal: %+v", status.Accounts[0].Notices)
	}
}

// TestContacts: two people compare codes, over their own gateways.
func TestContacts(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Send("alice", letter("one", alice, bob))
	w.Read("bob", "INBOX", "<one@x.example>")
	a, _ := running(t, w, "alice")
	b, _ := running(t, w, "bob")
	all, err := a.Contacts(t.Context(), alice)
	if err != nil || len(all) != 1 || all[0].Address != bob || all[0].State != "unverified" || len(all[0].Key) != 32 {
		t.Fatalf("%+v, %v", all, err)
	}
	mine, err := a.ContactCode(t.Context(), alice, bob)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := b.ContactCode(t.Context(), bob, alice)
	if err != nil || mine.Code != theirs.Code || len(strings.ReplaceAll(mine.Code, " ", "")) != 60 || len(mine.QR) == 0 {
		t.Fatalf("codes differ: %+v %+v %v", mine, theirs, err)
	}
	wrong := strings.Repeat("00000 ", 12)
	_, err = a.VerifyContact(t.Context(), alice, bob, wrong, nil)
	wantCode(t, "a wrong code", err, control.CodeMismatch)
	_, err = a.VerifyContact(t.Context(), alice, bob, "12345", nil)
	wantCode(t, "half a code", err, control.CodeInvalid)
	_, err = a.VerifyContact(t.Context(), alice, bob, "", nil)
	wantCode(t, "no code", err, control.CodeInvalid)
	_, err = a.VerifyContact(t.Context(), alice, bob, mine.Code, mine.Key)
	wantCode(t, "code and key", err, control.CodeInvalid)
	_, err = a.VerifyContact(t.Context(), alice, bob, "", make([]byte, 32))
	wantCode(t, "another key", err, control.CodeMismatch)
	if c, err := a.Contact(t.Context(), alice, bob); err != nil || c.State != "unverified" {
		t.Errorf("after refusals: %+v, %v", c, err)
	}
	if c, err := a.VerifyContact(t.Context(), alice, bob, theirs.Code, nil); err != nil || c.State != "verified" || c.VerifiedAt.IsZero() {
		t.Errorf("by code: %+v, %v", c, err)
	}
	if c, err := a.UnverifyContact(t.Context(), alice, bob); err != nil || c.State != "unverified" {
		t.Errorf("taken back: %+v, %v", c, err)
	}
	if c, err := a.VerifyContact(t.Context(), alice, bob, "", mine.Key); err != nil || c.State != "verified" {
		t.Errorf("by key: %+v, %v", c, err)
	}
	_, err = a.AcceptContact(t.Context(), alice, bob, make([]byte, 32))
	wantCode(t, "accept a foreign key", err, control.CodeMismatch)
	if c, err := a.AcceptContact(t.Context(), alice, bob, mine.Key); err != nil || c.State != "verified" {
		t.Errorf("accept the pinned key: %+v, %v", c, err)
	}
	if err := w.Person("bob").Device().Client().Rotate(t.Context(), cloudmls.RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Send("alice", letter("two", alice, bob))
	w.Read("bob", "INBOX", "<two@x.example>")
	status, err := a.Status(t.Context())
	if err != nil || len(status.Accounts) != 1 {
		t.Fatalf("%+v, %v", status, err)
	}
	told := func(n control.Notice) bool {
		return n.Contact == bob && n.Conversation == "" && strings.Contains(n.Text, bob)
	}
	if !slices.ContainsFunc(status.Accounts[0].Notices, told) {
		t.Errorf("nothing was told of the key that replaced a verified one: %+v", status.Accounts[0].Notices)
	}
	if c, err := a.Contact(t.Context(), alice, bob); err != nil || c.State != "unverified" {
		t.Errorf("after a rotation: %+v, %v", c, err)
	}
	_, err = a.Contact(t.Context(), alice, oscar)
	wantCode(t, "a contact without an account", err, control.CodeNotFound)
	_, err = a.ContactCode(t.Context(), alice, alice)
	if err == nil {
		t.Error("a code with oneself")
	}
}

// TestDevicesAndPassword: another device is listed and revoked; the password
// changes only with the old one.
func TestDevicesAndPassword(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	p := w.Person("alice")
	if _, err := p.AddDevice(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, _ := running(t, w, "alice")
	all, err := s.Devices(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	var this, other control.Device
	for _, d := range all {
		if d.This {
			this = d
		} else {
			other = d
		}
	}
	if this.ID == "" || other.ID == "" || !other.SignedIn || other.Name != "alice-2" {
		t.Fatalf("%+v", all)
	}
	wantCode(t, "this device", s.RevokeDevice(t.Context(), this.ID), control.CodeInvalid)
	wantCode(t, "no device", s.RevokeDevice(t.Context(), "nothing"), control.CodeNotFound)
	if err := s.RevokeDevice(t.Context(), other.ID); err != nil {
		t.Error(err)
	}
	if all, err := s.Devices(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	wantCode(t, "empty", s.ChangePassword(t.Context(), "", "x"), control.CodeInvalid)
	wantCode(t, "wrong", s.ChangePassword(t.Context(), "wrong", "another password"), control.CodeDenied)
	if err := s.ChangePassword(t.Context(), control.Secret(p.Password), "another password"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.AddDevice(t.Context()); err == nil {
		t.Error("the old password still signs in")
	}
	p.Password = "another password"
	if _, err := p.AddDevice(t.Context()); err != nil {
		t.Error(fmt.Errorf("the new password: %w", err))
	}
}
