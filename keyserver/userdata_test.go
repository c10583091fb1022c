package keyserver_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// An export holds what is the user's and nothing that signs in; after a deletion
// nothing of the user is left, and others have what is theirs.
func TestUserDataIsListedExportedAndDeleted(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "keyserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, keyserver.Options{Store: store})
	alice, bob := w.person("alice"), w.person("bob")
	if _, err := w.c.UploadKeyPackages(t.Context(), alice.token(), alice.account, keyapi.KeyPackageUpload{KeyPackages: [][]byte{alice.keyPackage(nil)}}); err != nil {
		t.Fatal(err)
	}
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "from alice", bob.account))
	if _, err := alice.tx(keyapi.Tx{Put: []keyapi.Object{put("state", 1, "sealed octets")}}); err != nil {
		t.Fatal(err)
	}

	list, err := keyserver.ListUsers(t.Context(), store, "", 10)
	if err != nil || len(list) != 2 || list[0].Name != "alice" || list[0].Objects != 1 || list[0].Sessions != 1 ||
		list[0].Waiting != 1 || list[1].Waiting != 1 || len(list[0].Accounts) != 1 || list[0].Seen.IsZero() {
		t.Fatalf("list %+v, %v", list, err)
	}

	if err := w.Handler.SetQuota(t.Context(), keyserver.UserID(alice.session.UserID), keyserver.Quota{Objects: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.MoveStore(t.Context(), alice.token(), keyapi.StoreMove{Change: keyapi.MoveLeave, Move: 1, To: "https://next.example"}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.rotate(alice.identity, newKey()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := keyserver.ExportUser(t.Context(), store, "alice", &out); err != nil {
		t.Fatal(err)
	}
	sorts := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(out.Bytes()))
	for lines.Scan() {
		var line struct {
			Type string          `json:"type"`
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		sorts[line.Type]++
	}
	if sorts["user"] != 1 || sorts["session"] != 1 || sorts["object"] != 1 || sorts["account"] != 1 || sorts["delivery"] != 1 ||
		sorts["quota"] != 1 || sorts["place"] != 1 || !strings.Contains(out.String(), "https://next.example") || !strings.Contains(out.String(), `"rotations":[`) {
		t.Errorf("lines by sort: %v", sorts)
	}
	for _, word := range []string{"erifier", "ecovery", "oken", "uccessor"} {
		if strings.Contains(out.String(), word) {
			t.Errorf("an export says %q", word)
		}
	}

	ended, err := keyserver.DeleteUser(t.Context(), store, "alice", nil)
	if err != nil || len(ended) != 1 {
		t.Fatalf("ended %v, %v", ended, err)
	}
	if _, err := w.c.Accounts(t.Context(), alice.token()); err == nil {
		t.Error("the session of a deleted user serves")
	}
	if list, err = keyserver.ListUsers(t.Context(), store, "", 10); err != nil || len(list) != 1 || list[0].Name != "bob" {
		t.Errorf("left %+v, %v", list, err)
	}
	if got := bob.inbox(0); len(got) != 1 {
		t.Errorf("bob has %d messages, want the one that alice sent", len(got))
	}
	if findings, err := store.Check(t.Context()); err != nil || len(findings) > 0 {
		t.Errorf("check: %v, %v", findings, err)
	}
	if _, err := keyserver.DeleteUser(t.Context(), store, "alice", nil); !errors.Is(err, keyserver.ErrNoUser) {
		t.Errorf("second deletion: %v", err)
	}
	w.person("alice") // name and account are free
}

// The id of a user who was deleted is nobody's again: servers with other roles,
// which know users by their ids only, would take the next one for the one before.
func TestThreat10_IDsOfDeletedUsersAreNotGivenOut(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	stores := newNode(t, keyserver.Options{
		Store: newStore(t), Now: w.clock.now, Origin: "https://store.example", Roles: []keyserver.Role{keyserver.RoleStore},
		Auth: &keyserver.RemoteAuth{URL: w.URL, Origin: w.Origin},
	})
	alice := w.register("alice")
	if _, err := stores.c.Tx(t.Context(), alice.token(), keyapi.Tx{Put: []keyapi.Object{put("state", 1, "sealed octets")}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Handler.RemoveUser(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	register := func(name string, id []byte) (keyapi.Session, error) {
		return w.c.Register(t.Context(), keyapi.RegisterRequest{
			Username: name, AuthVersion: 1, UserID: id, Auth: random(32), Device: keyapi.Device{Name: "d", Key: public(newKey())},
			KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
		})
	}
	for _, name := range []string{"mallory", "alice"} {
		s, err := register(name, alice.session.UserID)
		if err == nil {
			index, err := stores.c.ObjectIndex(t.Context(), s.AccessToken)
			t.Fatalf("%s is taken for the user who was deleted, and sees %d objects: %v", name, len(index.Objects), err)
		}
		wantCode(t, err, keyapi.CodeTaken)
	}
	if _, err := register("alice", random(16)); err != nil {
		t.Errorf("the name: %v", err)
	}
}
