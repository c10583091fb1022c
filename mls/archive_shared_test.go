package mls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// A record that is kept apart from its roster is the same one when it is put
// together again, and nothing else is accepted for it.
func TestArchiveWithoutRoster(t *testing.T) {
	w := newWorld(t, 3, 3)
	r := w.records()[1]
	m := must[*Message](t)(w.members[0].Protect([]byte("text"), ProtectOptions{}))
	head, members := r.MarshalWithoutRoster(), r.Members()
	if bytes.Contains(head, []byte("member 2")) {
		t.Error("the roster is in it")
	}
	again := must[*ArchiveRecord](t)(ParseArchiveRecordWith(head, members))
	if !bytes.Equal(must[[]byte](t)(again.MarshalBinary()), must[[]byte](t)(r.MarshalBinary())) {
		t.Error("the record differs")
	}
	if app := must[*Application](t)(again.Open(m)); string(app.Plaintext) != "text" {
		t.Errorf("got %q", app.Plaintext)
	}
	for n := range head {
		if _, err := ParseArchiveRecordWith(head[:n], members); err == nil {
			t.Fatalf("record cut to %d bytes was accepted", n)
		}
	}
	if _, err := ParseArchiveRecordWith(append(bytes.Clone(head), 0), members); err == nil {
		t.Error("trailing byte was accepted")
	}
	other := bytes.Clone(head)
	other[1]++
	if _, err := ParseArchiveRecordWith(other, members); !errors.Is(err, ErrFormat) {
		t.Errorf("unknown format: %v", err)
	}
	swapped, beyond, long := slices.Clone(members), slices.Clone(members), slices.Clone(members)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	beyond[2].Leaf = 4
	long[0].SignatureKey = make([]byte, maxKey+1)
	for name, bad := range map[string][]Member{
		"swapped": swapped, "twice": append(slices.Clone(members), members[2]), "beyond the tree": beyond,
		"without ourselves": {members[0], members[2]}, "nobody": nil, "long key": long,
	} {
		if _, err := ParseArchiveRecordWith(head, bad); err == nil {
			t.Errorf("roster %s was accepted", name)
		}
	}
}
