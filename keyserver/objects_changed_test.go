package keyserver_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What a device has is not sent again, and an index can be asked for in part.
func TestWhatChangedAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	all := []keyapi.Object{put("a", 1, "one"), put("b", 1, "two"), put("c", 1, "three")}
	if _, err := alice.tx(keyapi.Tx{Put: all}); err != nil {
		t.Fatal(err)
	}
	type known struct{ name, data string }
	for name, tt := range map[string]struct {
		who                         *person
		ask                         known
		objects, missing, unchanged int
	}{
		"the same":              {alice, known{"a", "one"}, 0, 0, 1},
		"another version":       {alice, known{"a", "zero"}, 1, 0, 0},
		"none there":            {alice, known{"d", "one"}, 0, 1, 0},
		"somebody else's":       {bob, known{"a", "one"}, 0, 1, 0},
		"another object's hash": {alice, known{"a", "two"}, 1, 0, 0},
	} {
		l, err := w.c.ObjectUnless(t.Context(), tt.who.token(), objectID(tt.ask.name), sha256.Sum256([]byte(tt.ask.data)))
		if err != nil || len(l.Objects) != tt.objects || len(l.Missing) != tt.missing || len(l.Unchanged) != tt.unchanged {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for i := range all {
		var b keyapi.Buckets
		b.Add(all[i].ID.Bucket())
		x, err := w.c.ObjectIndexOf(t.Context(), alice.token(), b)
		hash := sha256.Sum256(all[i].Data)
		if err != nil || len(x.Objects) != 1 || x.Objects[0].ID != all[i].ID || !bytes.Equal(x.Objects[0].Hash, hash[:]) {
			t.Errorf("bucket of %s: %+v, %v", all[i].Data, x, err)
		}
	}
	x, err := w.c.ObjectIndexOf(t.Context(), alice.token(), keyapi.Buckets{})
	if err != nil || len(x.Objects) != 0 {
		t.Errorf("no bucket: %+v, %v", x, err)
	}
	x, err = w.c.ObjectIndex(t.Context(), alice.token())
	if err != nil || len(x.Objects) != len(all) || !slices.ContainsFunc(x.Objects, func(v keyapi.ObjectVersion) bool { return v.ID == objectID("c") }) {
		t.Errorf("all: %+v, %v", x, err)
	}
}
