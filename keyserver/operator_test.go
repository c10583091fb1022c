package keyserver_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// TestOperatorNamesUsersByID: servers without the role auth know no names. Their
// operator finds a user by the id, and is told so.
func TestOperatorNamesUsersByID(t *testing.T) {
	a := newApart(t, keyclient.Options{})
	alice, bob := a.person("alice"), a.person("bob")
	if _, err := alice.tx(keyapi.Tx{Put: []keyapi.Object{put("state", 1, "sealed octets")}}); err != nil {
		t.Fatal(err)
	}
	g := newGroup()
	bob.mustCommit(g, g.create(bob.account, "hello", alice.account))
	list, err := a.auth.Users(t.Context(), "", 10)
	if err != nil || len(list) != 2 || list[0].ID.String() != hex.EncodeToString(alice.session.UserID) {
		t.Fatalf("users at the server with the role auth: %+v, %v", list, err)
	}
	id, nobody := list[0].ID.String(), strings.Repeat("0a", 16)
	for role, n := range map[string]*node{"store": a.store, "delivery": a.delivery} {
		for what, ask := range map[string]func(name string) error{
			"user":     func(name string) error { return second(n.UserInfo(t.Context(), name)) },
			"export":   func(name string) error { return n.ExportUser(t.Context(), name, io.Discard) },
			"delete":   func(name string) error { return n.RemoveUser(t.Context(), name) },
			"sign out": func(name string) error { return second(n.EndSessions(t.Context(), name, nil)) },
		} {
			for _, name := range []string{"alice", "two words"} {
				err := ask(name)
				if !errors.Is(err, keyserver.ErrNoUser) || !errors.Is(err, keyserver.ErrElsewhere) || !strings.Contains(err.Error(), "id") || !strings.Contains(err.Error(), a.auth.url) {
					t.Errorf("%s: %s of %q: %v", role, what, name, err)
				}
			}
			if err := ask(nobody); !errors.Is(err, keyserver.ErrNoUser) || errors.Is(err, keyserver.ErrElsewhere) {
				t.Errorf("%s: %s of an id of nobody: %v", role, what, err)
			}
		}
		if _, err := n.Users(t.Context(), "", 10); !errors.Is(err, keyserver.ErrElsewhere) {
			t.Errorf("%s: list of users: %v", role, err)
		}
		if _, err := n.EndSessions(t.Context(), id, nil); !errors.Is(err, keyserver.ErrElsewhere) {
			t.Errorf("%s: sessions of %s: %v", role, id, err)
		}
	}
	if u, err := a.store.UserInfo(t.Context(), strings.ToUpper(id)); err != nil || u.ID.String() != id || u.Objects != 1 {
		t.Errorf("at the store: %+v, %v", u, err)
	}
	if u, err := a.delivery.UserInfo(t.Context(), id); err != nil || len(u.Accounts) != 1 || u.Accounts[0].Waiting != 1 {
		t.Errorf("at the delivery server: %+v, %v", u, err)
	}
	if err := a.store.SetQuota(t.Context(), list[0].ID, keyserver.Quota{Bytes: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	for role, want := range map[*node]string{a.store: `"type":"object"`, a.delivery: `"type":"delivery"`} {
		var out bytes.Buffer
		if err := role.ExportUser(t.Context(), id, &out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("export: %v, without %s: %s", err, want, out.String())
		}
		if err := role.RemoveUser(t.Context(), id); err != nil {
			t.Errorf("delete: %v", err)
		}
		if err := role.ExportUser(t.Context(), id, io.Discard); !errors.Is(err, keyserver.ErrNoUser) {
			t.Errorf("after it: %v", err)
		}
	}
	if counter, _ := alice.object(objectID("state")); counter != 0 {
		t.Error("the object is there still")
	}
	if r, err := a.c.Reachable(t.Context(), bob.token(), alice.account); err != nil || r.HasAccount {
		t.Errorf("the account is there still: %v", err)
	}
	if len(bob.inbox(0)) != 1 { // his own copy of the Commit
		t.Error("another user lost messages")
	}
}

// A server that shares its store with the one that has the role auth finds users
// by name, as that one does; ids are for those that cannot.
func TestOperatorNamesUsersByNameWhereItCan(t *testing.T) {
	store, clock := newStore(t), newClock()
	auth := newNode(t, keyserver.Options{Store: store, Now: clock.now, Roles: []keyserver.Role{keyserver.RoleAuth}})
	rest := newNode(t, keyserver.Options{
		Store: store, Now: clock.now, Roles: []keyserver.Role{keyserver.RoleStore, keyserver.RoleDelivery},
		Auth: &keyserver.RemoteAuth{URL: auth.url, Origin: auth.Origin},
	})
	alice := auth.at(t, clock).register("alice")
	if u, err := rest.UserInfo(t.Context(), "Alice"); err != nil || u.Name != "alice" || len(u.Sessions) != 1 {
		t.Errorf("%+v, %v", u, err)
	}
	if list, err := rest.Users(t.Context(), "", 10); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := auth.UserInfo(t.Context(), hex.EncodeToString(alice.session.UserID)); !errors.Is(err, keyserver.ErrNoUser) {
		t.Errorf("a name of 32 hexadecimal digits is somebody else: %v", err)
	}
	if n, err := rest.EndSessions(t.Context(), "alice", nil); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}
