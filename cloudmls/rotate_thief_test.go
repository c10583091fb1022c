package cloudmls

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// thief is what somebody took from a device, with a program of their own: the
// live group of a conversation, which they keep in step by every Commit that the
// delivery service passes on to them, and the session, until it ends.
type thief struct {
	*device
	id     ConversationID
	conv   *conversationRecord
	g      *mls.Group
	sender *senderRecord
}

func (d *device) steals(id ConversationID) *thief {
	d.t.Helper()
	conv, err := d.member(d.t.Context(), d.self, id)
	if err != nil {
		d.t.Fatal(err)
	}
	g, sender, err := d.reader(d.t.Context(), d.self).group(conv.Group, conv.Epoch)
	if err != nil {
		d.t.Fatal(err)
	}
	return &thief{device: d, id: id, conv: conv, g: g, sender: sender}
}

// opens tells whether the thief can read a message, after all Commits that were
// accepted on the wire.
func (h *thief) opens(message []byte) bool {
	h.t.Helper()
	for _, e := range h.w.wire.requests() {
		if !e.is("POST", "/v1/tx") || e.status != 200 {
			continue
		}
		c := decodeJSON[keyapi.Tx](h.t, e.sent).Commit
		if c == nil || len(c.Commit) == 0 || !bytes.Equal(c.Group, []byte(h.g.ID())) {
			continue
		}
		m, err := mls.ParseMessage(c.Commit)
		if err != nil {
			h.t.Fatal(err)
		}
		if r, err := h.g.Process(m, h.w.clock.now()); err == nil {
			if commit, ok := r.(*mls.ReceivedCommit); ok && !commit.SelfRemoved {
				h.g = commit.Staged.Group()
			}
		}
	}
	archive, err := h.g.Archive()
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := mls.ParseMessage(message)
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = archive.Open(m)
	return err == nil
}

// rotates replaces the account's identity key at the key server by one of theirs.
func (h *thief) rotates() {
	h.t.Helper()
	own, err := h.identity(h.t.Context(), h.self)
	if err != nil {
		h.t.Fatal(err)
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := keyapi.NewRotation(h.self, own.private(), public, uint64(h.w.clock.now().Unix()))
	if err != nil {
		h.t.Fatal(err)
	}
	err = h.Client.store.Authorized(h.t.Context(), func(ctx context.Context, token string) error {
		_, err := h.o.Server.RotateIdentity(ctx, token, keyapi.RotationRequest{Account: h.self, Rotation: r})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// commits publishes a Commit of the stolen leaf, with fresh keys and a certificate
// from now on, that the user's state knows nothing of.
func (h *thief) commits(life mls.Lifetime) {
	h.t.Helper()
	own, err := h.identity(h.t.Context(), h.self)
	if err != nil {
		h.t.Fatal(err)
	}
	signature, credential, err := own.certify(h.self, h.g.CipherSuite(), life)
	if err != nil {
		h.t.Fatal(err)
	}
	pending, err := h.g.Commit(mls.CommitOptions{Now: h.w.clock.now(), NewSignatureKey: signature, NewCredential: &credential})
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := submit(h.self, h.conv, h.g, pending)
	if err != nil {
		h.t.Fatal(err)
	}
	err = h.Client.store.Authorized(h.t.Context(), func(ctx context.Context, token string) error {
		_, err := h.o.Server.Tx(ctx, token, keyapi.Tx{Commit: s})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.g = pending.Staged.Group()
}

// TestThreat44_ThiefRotatedFirst: the thief has replaced the identity key before
// the user did. That cannot be undone, but nothing that is said after the rotation
// is read by the thief, in no group: each got fresh keys, once, and so does one
// that is entered by a KeyPackage which the thief has. Whoever hears of the
// thief's key writes to neither.
func TestThreat44_ThiefRotatedFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	stolen := alice.sibling()
	dialog, group := alice.ensureDialog(bob), newID(t)
	alice.ensureGroup(group, bob)
	bob.cleanSync()
	stolen.cleanSync()
	late := newID(t)
	bob.ensureGroup(late, alice) // not entered yet
	thieves := []*thief{stolen.steals(dialog), stolen.steals(group)}
	if before := bob.encrypt(group, "before"); !thieves[1].opens(before) {
		t.Fatal("the thief reads nothing to begin with")
	}
	thieves[0].rotates()
	w.clock.advance(time.Minute)
	if err := alice.Rotate(t.Context(), RotateOptions{}); !errors.Is(err, ErrIdentityTaken) {
		t.Fatalf("got %v", err)
	}
	epochs := map[ConversationID]uint64{}
	for _, h := range thieves {
		epochs[h.id] = alice.state(h.id).Epoch
		if b := alice.encrypt(h.id, "after the rotation"); h.opens(b) {
			t.Errorf("the thief reads on in %v, epoch %d", h.id, epochs[h.id])
		}
		bob.mustSync()
		if b := bob.encrypt(h.id, "an answer"); h.opens(b) {
			t.Errorf("the thief reads the answer in %v", h.id)
		}
	}
	if e := alice.state(late).Epoch; e < 2 {
		t.Errorf("the group entered by a KeyPackage that the thief has is in epoch %d", e)
	}
	for range 3 {
		w.clock.advance(time.Hour)
		if err := alice.Maintain(t.Context()); !errors.Is(err, ErrIdentityTaken) {
			t.Errorf("maintain: %v", err)
		}
	}
	for id, epoch := range epochs {
		if e := alice.state(id).Epoch; e != epoch {
			t.Errorf("epoch %d of %v became %d: renewed again and again", epoch, id, e)
		}
	}
	if _, err := bob.Reach(t.Context(), bob.self, alice.self); err != nil {
		t.Fatal(err)
	}
	_, err := bob.Encrypt(t.Context(), bob.self, dialog, []byte("to whom?"), nil)
	var changed *IdentityChangedError
	if !errors.As(err, &changed) || !changed.Retired {
		t.Errorf("Bob follows the thief's key and writes to Alice: %v", err)
	}
}

// TestThreat44_ThiefCommits: while the rotation begins, the thief opens an epoch
// with the stolen leaf and keys that only the thief has, valid far into the
// future, so that they look fresh. The user's account lost the group by that, is
// let in again with keys of its own, and the thief is out.
func TestThreat44_ThiefCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	stolen := alice.sibling()
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	stolen.cleanSync()
	h := stolen.steals(id)
	life := lifetime(w.clock.now().Add(24 * time.Hour))
	life.NotBefore = uint64(w.clock.now().Add(-time.Hour).Unix())
	h.commits(life)
	before := alice.ownKey()
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	alice.isRotated(before)
	if s := alice.state(id); !s.Broken {
		t.Fatalf("the thief's Commit was not noticed: %+v", s)
	}
	for _, d := range []*device{bob, carol} { // as whoever writes to Alice does
		if _, err := d.Reach(t.Context(), d.self, alice.self); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.advance(askAgain)
	w.mended(alice, bob, carol)
	for _, from := range []*device{alice, bob, carol} {
		b := from.encrypt(id, "after the rotation")
		if h.opens(b) {
			t.Errorf("the thief reads what %s writes", from.self)
		}
		bob.reads(b, "after the rotation", from)
	}
	if s := bob.state(id); len(s.Members) != 3 || !slices.Equal(s.Members, alice.state(id).Members) {
		t.Errorf("members %v", s.Members)
	}
}
