package keyserver_test

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

func isProblem(err error, code string) bool {
	var p *keyapi.Problem
	return errors.As(err, &p) && p.Code == code
}

// A store that the objects have left, or have not reached yet, does not say that what a
// device knows is unchanged there: it says that they moved.
func TestWhatMovedIsNotUnchanged(t *testing.T) {
	t.Parallel()
	m := newMover(t, 1)
	known := func(c *keyclient.Client) (keyapi.ObjectList, error) {
		return c.ObjectUnless(t.Context(), m.at(c), objectID("0"), sha256.Sum256([]byte("second 0")))
	}
	part := func(c *keyclient.Client) (keyapi.ObjectIndex, error) {
		return c.ObjectIndexOf(t.Context(), m.at(c), keyapi.Buckets{0xff})
	}
	leaving := m.must(m.old, keyapi.MoveLeave, nil)
	if l, err := known(m.old); err != nil || len(l.Unchanged) != 1 {
		t.Fatalf("where it is leaving, which may be given up: %+v, %v", l, err)
	}
	objects, err := m.old.Objects(t.Context(), m.token(), []keyapi.ObjectID{objectID("0")})
	if err != nil {
		t.Fatal(err)
	}
	m.must(m.next, keyapi.MoveArrive, nil)
	if _, err := m.next.ImportObjects(t.Context(), m.there.token(), keyapi.StoreImport{Move: m.n, Objects: objects.Objects}); err != nil {
		t.Fatal(err)
	}
	_, err = known(m.next)
	wantCode(t, err, keyapi.CodeMoved)
	_, err = part(m.next)
	wantCode(t, err, keyapi.CodeMoved)
	m.must(m.next, keyapi.MoveOpen, leaving.IndexHash)
	m.must(m.old, keyapi.MoveGo, leaving.IndexHash)
	_, err = known(m.old)
	if p := wantCode(t, err, keyapi.CodeMoved); p.MovedTo != "https://next.example" {
		t.Errorf("devices are sent to %q", p.MovedTo)
	}
	_, err = part(m.old)
	if p := wantCode(t, err, keyapi.CodeMoved); p.MovedTo != "https://next.example" {
		t.Errorf("devices are sent to %q", p.MovedTo)
	}
	if l, err := known(m.next); err != nil || len(l.Unchanged) != 1 {
		t.Errorf("where it went: %+v, %v", l, err)
	}
}

// Where the roles are apart, the store is asked, and only it answers; a session that has
// ended hears of nothing.
func TestWhatChangedAloneWithRolesApart(t *testing.T) {
	t.Parallel()
	a := newApart(t, keyclient.Options{})
	alice := a.person("alice")
	if _, err := alice.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, "one")}}); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("one"))
	var bucket keyapi.Buckets
	bucket.Add(objectID("a").Bucket())
	if l, err := a.c.ObjectUnless(t.Context(), alice.token(), objectID("a"), hash); err != nil || len(l.Unchanged) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if x, err := a.c.ObjectIndexOf(t.Context(), alice.token(), bucket); err != nil || len(x.Objects) != 1 {
		t.Errorf("%+v, %v", x, err)
	}
	for name, url := range map[string]string{"auth": a.auth.url, "delivery": a.delivery.url} {
		c, err := keyclient.New(keyclient.Options{URL: a.auth.url, StoreURL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if l, err := c.ObjectUnless(t.Context(), alice.token(), objectID("a"), hash); !isProblem(err, keyapi.CodeNoRoute) {
			t.Errorf("%s answers for the store: %+v, %v", name, l, err)
		}
		if x, err := c.ObjectIndexOf(t.Context(), alice.token(), bucket); !isProblem(err, keyapi.CodeNoRoute) {
			t.Errorf("%s answers for the store: %+v, %v", name, x, err)
		}
	}
	token := alice.token()
	if err := a.c.Logout(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	a.clock.advance(5 * time.Second)
	_, err := a.c.ObjectUnless(t.Context(), token, objectID("a"), hash)
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = a.c.ObjectIndexOf(t.Context(), token, bucket)
	wantCode(t, err, keyapi.CodeUnauthorized)
}
