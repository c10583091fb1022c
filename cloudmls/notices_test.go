package cloudmls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// outOf gives a copy of a ciphertext as anybody can make it who sees one pass: of
// another epoch (0: the same), with other authenticated data, which nobody can open.
func outOf(t *testing.T, message []byte, epoch uint64) []byte {
	t.Helper()
	b := bytes.Clone(message)
	_, rest := field(t, b[4:]) // version and wire format; the group
	if epoch != 0 {
		binary.BigEndian.PutUint64(rest, epoch)
	}
	aad, _ := field(t, rest[8+1:]) // epoch, content type
	aad[1] ^= 1                    // of the epoch tag
	return b
}

func (d *device) notices(kind NoticeKind) (list []Notice) {
	d.t.Helper()
	s, err := d.Status(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, n := range s.Notices {
		if n.Kind == kind {
			list = append(list, n)
		}
	}
	return list
}

// TestThreat30_ForksAreToldOnce: what looks like a fork may be anybody's doing, and
// pushes nothing out that people should know: there is one notice of it per
// conversation, which names the last epoch, and few altogether.
func TestThreat30_ForksAreToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	dialog, group := alice.ensureDialog(bob), newID(t)
	alice.ensureGroup(group, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	if err := carol.Leave(t.Context(), carol.self, group); err != nil {
		t.Fatal(err)
	}
	if r := bob.mustSync(); !r.tells(NoticeLeaves, carol.self) {
		t.Fatalf("%+v", r)
	}
	for epoch := uint64(1); epoch <= 3; epoch++ {
		bob.cannotRead(outOf(t, bob.encrypt(dialog, "hello there"), 0), NeverFork)
		if l := bob.notices(NoticeFork); len(l) != 1 || l[0].Conversation != dialog || l[0].Text != fmt.Sprintf("a message of epoch %d was made in another state of the group than ours", epoch) {
			t.Errorf("epoch %d: %+v", epoch, l)
		}
		bob.renewKeys(dialog)
	}
	for range 2 * maxNotices {
		if err := bob.noteFork(t.Context(), bob.self, newID(t), 1); err != nil {
			t.Fatal(err)
		}
	}
	if l := bob.notices(NoticeFork); len(l) != maxHearsay || slices.ContainsFunc(l, func(n Notice) bool { return n.Conversation == dialog }) {
		t.Errorf("%d forks are told of, want the last %d", len(l), maxHearsay)
	}
	if len(bob.notices(NoticeLeaves)) != 1 {
		t.Error("what is known was pushed out")
	}
}
