package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/admin"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

const origin = keyservertest.Origin

type world struct {
	*keyservertest.Server
	store *boltstore.Store
	dir   string
}

func newWorld(t *testing.T, o keyserver.Options) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	var err error
	if w.store, err = boltstore.Open(filepath.Join(w.dir, "keyserver.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Store = w.store
	w.Server = keyservertest.NewServer(t, keyservertest.Options{Server: o})
	return w
}

// operators are the two ways to the same server.
func (w *world) operators(t *testing.T) map[string]admin.Operator {
	t.Helper()
	service := &admin.Service{Server: w.Handler, Store: w.store}
	socket := filepath.Join(w.dir, "admin.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- admin.Serve(ctx, ln, service, slog.New(slog.DiscardHandler)) }()
	client := admin.NewClient(func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", socket) })
	t.Cleanup(func() {
		stop()
		if err := errors.Join(client.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return map[string]admin.Operator{"service": service, "client": client}
}

func (w *world) register(t *testing.T, name string, accounts ...string) *cloudmls.Client {
	t.Helper()
	server, err := keyclient.New(keyclient.Options{URL: w.URL})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := cloudmls.Register(t.Context(), name, "correct horse battery", cloudmls.Options{
		Server: server, Origin: origin, Store: cloudmls.NewMemoryStore(), VaultKey: make([]byte, 32), DeviceName: name + "'s laptop",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, a := range accounts {
		if err := c.AddAccount(t.Context(), cloudmls.Account{Platform: "chat", ID: a}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestUsers(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	for _, name := range []string{"carol", "alice", "bob"} {
		w.register(t, name, name+"-1", name+"-2")
	}
	for how, o := range w.operators(t) {
		page, err := o.Users(t.Context(), "", 2)
		if err != nil || len(page) != 2 || page[0].Name != "alice" || page[1].Name != "bob" || page[0].Objects == 0 || page[0].Bytes == 0 || page[0].Quota.Objects == 0 {
			t.Errorf("%s: first page %+v, %v", how, page, err)
		}
		if page, err = o.Users(t.Context(), "bob", 2); err != nil || len(page) != 1 || page[0].Name != "carol" {
			t.Errorf("%s: second page %+v, %v", how, page, err)
		}
		u, err := o.User(t.Context(), "Alice")
		if err != nil || u.Name != "alice" || len(u.Accounts) != 2 || u.Accounts[0].Account.ID != "alice-1" || len(u.Sessions) != 1 {
			t.Errorf("%s: alice is %+v, %v", how, u, err)
		}
		for _, nobody := range []string{"dave", "", "a b"} {
			if _, err := o.User(t.Context(), nobody); !errors.Is(err, keyserver.ErrNoUser) {
				t.Errorf("%s: user %q: %v", how, nobody, err)
			}
		}
	}
}

func TestQuota(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	w.register(t, "alice")
	for how, o := range w.operators(t) {
		before, err := o.User(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		more := keyserver.Quota{Objects: before.Quota.Objects + 7, Bytes: before.Quota.Bytes + 11}
		if err := o.SetQuota(t.Context(), "alice", more); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if now, err := o.User(t.Context(), "alice"); err != nil || now.Quota != more {
			t.Errorf("%s: quota %+v, %v", how, now.Quota, err)
		}
		if err := o.SetQuota(t.Context(), "alice", keyserver.Quota{}); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if now, err := o.User(t.Context(), "alice"); err != nil || now.Quota != before.Quota {
			t.Errorf("%s: quota %+v, %v", how, now.Quota, err)
		}
		if err := o.SetQuota(t.Context(), "alice", keyserver.Quota{Objects: -1}); err == nil {
			t.Errorf("%s: a negative quota", how)
		}
	}
}

// TestEndSessions: a session that the operator ended is dead at once.
func TestEndSessions(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	for how, o := range w.operators(t) {
		c := w.register(t, "user-"+how, how)
		u, err := o.User(t.Context(), "user-"+how)
		if err != nil || len(u.Sessions) != 1 {
			t.Fatalf("%s: %+v, %v", how, u, err)
		}
		other := keyserver.SessionID{1}
		if n, err := o.EndSessions(t.Context(), u.Name, &other); err != nil || n != 0 {
			t.Errorf("%s: another's session: %d, %v", how, n, err)
		}
		if _, err := c.Devices(t.Context()); err != nil {
			t.Errorf("%s: before: %v", how, err)
		}
		if n, err := o.EndSessions(t.Context(), u.Name, nil); err != nil || n != 1 {
			t.Errorf("%s: %d, %v", how, n, err)
		}
		if _, err := c.Devices(t.Context()); err == nil {
			t.Errorf("%s: the session goes on", how)
		}
	}
}

// TestExportAndRemove: a person gets all that is kept of them, without the
// server's secrets, and afterwards nothing is left.
func TestExportAndRemove(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	for how, o := range w.operators(t) {
		name := "user-" + how
		a, b := w.register(t, name, name), w.register(t, "friend-of-"+name, "friend-"+how)
		self := cloudmls.Account{Platform: "chat", ID: name}
		friend := cloudmls.Account{Platform: "chat", ID: "friend-" + how}
		if _, err := b.Update(t.Context(), friend, cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{self, friend}}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Devices(t.Context()); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := o.Export(t.Context(), name, &out); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		kinds := map[string]int{}
		for line := range strings.Lines(out.String()) {
			var v struct {
				Type string
				Data map[string]any
			}
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%s: %v in %q", how, err, line)
			}
			kinds[v.Type]++
			for _, secret := range []string{"verifier", "recovery", "token", "successor"} {
				for member := range v.Data {
					if strings.Contains(strings.ToLower(member), secret) {
						t.Errorf("%s: the export has %s of a %s", how, member, v.Type)
					}
				}
			}
		}
		if kinds["user"] != 1 || kinds["account"] != 1 || kinds["session"] != 1 || kinds["object"] < 5 || kinds["delivery"] != 1 {
			t.Errorf("%s: exported %v", how, kinds)
		}
		if err := o.RemoveUser(t.Context(), name); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if _, err := o.User(t.Context(), name); !errors.Is(err, keyserver.ErrNoUser) {
			t.Errorf("%s: after removal: %v", how, err)
		}
		if _, err := a.Devices(t.Context()); err == nil {
			t.Errorf("%s: the removed user's session goes on", how)
		}
		if err := o.Export(t.Context(), name, io.Discard); !errors.Is(err, keyserver.ErrNoUser) {
			t.Errorf("%s: export after removal: %v", how, err)
		}
		if findings, err := o.Check(t.Context()); err != nil || len(findings) != 0 {
			t.Errorf("%s: the store after removal: %v, %v", how, findings, err)
		}
		if _, err := b.Devices(t.Context()); err != nil {
			t.Errorf("%s: another user: %v", how, err)
		}
	}
}

func TestInvitations(t *testing.T) {
	w := newWorld(t, keyserver.Options{Registration: keyserver.RegistrationInvitation})
	for how, o := range w.operators(t) {
		code, i, err := o.Invite(t.Context(), time.Hour, "for "+how)
		if err != nil || len(code) < 20 || i.Comment != "for "+how {
			t.Fatalf("%s: %q, %+v, %v", how, code, i, err)
		}
		list, err := o.Invitations(t.Context())
		if err != nil || len(list) != 1 || list[0].ID != i.ID || list[0].Comment != "for "+how || list[0].Expires.IsZero() {
			t.Errorf("%s: %+v, %v", how, list, err)
		}
		if err := o.RevokeInvitation(t.Context(), i.ID); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if list, err = o.Invitations(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%s: after revocation %+v, %v", how, list, err)
		}
		if _, _, err := o.Invite(t.Context(), -time.Hour, ""); err == nil {
			t.Errorf("%s: an invitation that has ended", how)
		}
	}
}

func TestBackup(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	w.register(t, "alice", "alice")
	for how, o := range w.operators(t) {
		var out bytes.Buffer
		if err := o.Backup(t.Context(), &out); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		file, restored := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored.db")
		if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := boltstore.Restore(t.Context(), file, restored); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// broken is an operator whose store breaks off.
type broken struct{ admin.Operator }

func (broken) Backup(_ context.Context, to io.Writer) error {
	if _, err := to.Write(make([]byte, 100_000)); err != nil {
		return err
	}
	return errors.New("disk on fire")
}

func (broken) Export(context.Context, string, io.Writer) error { return errors.New("disk on fire") }

// TestHalfABackup: what broke off is not taken for a whole one.
func TestHalfABackup(t *testing.T) {
	client := admin.NewClient(func(ctx context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		ln := &oneConn{conn: there}
		go func() { _ = admin.Serve(ctx, ln, broken{}, slog.New(slog.DiscardHandler)) }()
		return here, nil
	})
	if err := client.Backup(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("backup: %v", err)
	}
	if err := client.Export(t.Context(), "alice", io.Discard); err == nil || !strings.Contains(err.Error(), "on fire") {
		t.Errorf("export: %v", err)
	}
}

type oneConn struct {
	conn net.Conn
	done bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.done {
		select {}
	}
	l.done = true
	return l.conn, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func FuzzHandler(f *testing.F) {
	f.Add("users", []byte(`{"limit":5}`))
	f.Add("quota", []byte(`{"name":"alice","quota":{"objects":1}}`))
	f.Add("sessions-end", []byte(`{"name":"alice","session":"00"}`))
	f.Fuzz(func(t *testing.T, name string, body []byte) { admin.HandleOne(name, body) })
}
