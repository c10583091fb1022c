package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

func (r SyncResult) tells(kind NoticeKind, about Account) bool {
	return slices.ContainsFunc(r.Notices, func(n Notice) bool { return n.Kind == kind && n.Account == about && n.Text != "" })
}

// mended syncs devices until nothing waits any more, over the time that members
// leave each other.
func (w *world) mended(devices ...*device) {
	w.t.Helper()
	for range 4 {
		for _, d := range devices {
			d.mustSync()
		}
		w.clock.advance(turnStep)
	}
}

// splitOff makes Carol lose track of a group with Bob: he makes a Commit that she
// cannot follow, and goes on and adds Alice, whom she has never met.
func splitOff(t *testing.T) (w *world, alice, bob, carol *device, id ConversationID) {
	t.Helper()
	w = newWorld(t)
	alice, bob, carol = w.user("alice"), w.user("bob"), w.user("carol")
	id = newID(t)
	bob.ensureGroup(id, carol)
	carol.cleanSync()
	bob.splitCommit(id)
	bob.ensureGroup(id, alice, carol)
	alice.cleanSync()
	return w, alice, bob, carol, id
}

// TestThreat33_InvalidUpdatePath: a Commit whose path does not fit some member is
// reported by that member, with a signature, and the next of the others who hears
// of it lets the member in again: its old leaf goes and a new one comes in one
// Commit. Nobody does anything by hand, nothing is sent in between, and what could
// be read before still can.
func TestThreat33_InvalidUpdatePath(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := splitOff(t)
	r := carol.mustSync()
	if !hasProblem(r, ProblemGarbage) || !carol.state(id).Broken || !r.tells(NoticeBroken, Account{}) {
		t.Fatalf("%+v; want the split noticed and told", r)
	}
	if _, err := carol.Encrypt(t.Context(), carol.self, id, []byte("to whom?"), nil); !errors.Is(err, ErrBroken) {
		t.Fatalf("Carol still encrypts: %v", err)
	}
	if s, err := carol.Status(t.Context(), carol.self); err != nil || len(s.Notices) != 1 || s.Notices[0].Conversation != id {
		t.Errorf("status %+v, %v", s.Notices, err)
	}
	if r := bob.mustSync(); !r.tells(NoticeAsks, carol.self) {
		t.Errorf("Bob is not told: %+v", r)
	}
	w.mended(alice, bob, carol)
	if s := carol.state(id); s.Broken || s.Blocked != nil || len(s.Members) != 3 {
		t.Fatalf("Carol: %+v", s)
	}
	for _, d := range []*device{alice, bob, carol} {
		if s := d.state(id); len(s.Lost) != 0 || len(s.Members) != 3 || s.Epoch != alice.state(id).Epoch {
			t.Errorf("%s: %+v", d.self, s)
		}
	}
	alice.reads(carol.encrypt(id, "back"), "back", carol)
	carol.reads(bob.encrypt(id, "welcome back"), "welcome back", bob)
	if n := commitsThatAdd(t, w, id, carol); n != 1 {
		t.Errorf("%d Commits to let one member in again", n)
	}
}

// commitsThatAdd counts accepted Commits in a group that add somebody.
func commitsThatAdd(t *testing.T, w *world, id ConversationID, who *device) int {
	t.Helper()
	n := 0
	for _, e := range w.wire.requests() {
		if !e.is("POST", "/v1/tx") || e.status != 200 {
			continue
		}
		c := decodeJSON[keyapi.Tx](t, e.sent).Commit
		if c != nil && !c.Create && bytes.Equal(c.Conversation, id[:]) && slices.Contains(c.Joiners, who.self) {
			n++
		}
	}
	return n
}

// TestThreat33_WhoeverSendsRepairs: a member who hears of the request and writes
// does not leave it to others, so that the lost one can read what is written.
func TestThreat33_WhoeverSendsRepairs(t *testing.T) {
	t.Parallel()
	_, alice, bob, carol, id := splitOff(t)
	carol.mustSync()
	b := bob.encrypt(id, "for all three")
	carol.mustSync()
	carol.reads(b, "for all three", bob)
	alice.reads(b, "for all three", bob)
}

// TestThreat33_Dialog: in a dialog the other one lets the lost one in again, or
// the lost one begins anew, whoever is first.
func TestThreat33_Dialog(t *testing.T) {
	t.Parallel()
	for name, anew := range map[string]bool{"let in again": false, "begun anew": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			id := alice.ensureDialog(bob)
			bob.cleanSync()
			old := bob.encrypt(id, "before")
			alice.reads(old, "before", bob)
			bob.splitCommit(id)
			if r := alice.mustSync(); !alice.state(id).Broken {
				t.Fatalf("not noticed: %+v", r)
			}
			if anew {
				before := alice.state(id).group(t, alice)
				s, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindDialog, Members: accounts(bob)})
				if err != nil || s.Blocked != nil || bytes.Equal(s.group(t, alice), before) {
					t.Fatalf("%+v, %v; want another group", s, err)
				}
				if r := bob.mustSync(); !slices.Contains(r.Replaced, id) || !r.tells(NoticeReplaced, alice.self) {
					t.Errorf("Bob is not told: %+v", r)
				}
			} else {
				w.mended(bob, alice)
			}
			bob.reads(alice.encrypt(id, "after"), "after", alice)
			alice.reads(bob.encrypt(id, "and back"), "and back", bob)
			alice.reads(old, "before", bob)
		})
	}
}

// TestRepairRequestsAreAuthentic: nobody but a member asks for itself, and once.
func TestRepairRequestsAreAuthentic(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	mallory := w.user("mallory")
	conv, err := bob.member(t.Context(), bob.self, id)
	if err != nil {
		t.Fatal(err)
	}
	request := func(from *device, claims Account, change func(*repairRequest)) []byte {
		who, err := from.identity(t.Context(), from.self)
		if err != nil {
			t.Fatal(err)
		}
		r := &repairRequest{reason: 1, origin: w.ks.Origin, account: claims, conversation: id, group: conv.Group, epoch: conv.Epoch}
		if change != nil {
			change(r)
		}
		return r.sign(who.private())
	}
	send := func(from *device, b []byte) {
		t.Helper()
		s := from.notice(from.self, conv, b)
		s.Recipients = accounts(alice)
		if err := from.update(t.Context(), from.self, func(tx *state.Tx, _ *view) error { return tx.SetCommit(*s) }); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*repairRequest) {}
	for name, tt := range map[string]struct {
		from   *device
		claims Account
		change func(*repairRequest)
		want   ProblemKind
	}{
		"a stranger":           {mallory, mallory.self, nothing, ProblemForbidden},
		"in another's name":    {bob, carol.self, nothing, ProblemForbidden},
		"in the reader's name": {bob, alice.self, nothing, ProblemForbidden},
		"another conversation": {carol, carol.self, func(r *repairRequest) { r.conversation[0] ^= 1 }, ProblemForbidden},
		"another key server":   {carol, carol.self, func(r *repairRequest) { r.origin = "https://evil.example" }, ProblemForbidden},
		"another group":        {carol, carol.self, func(r *repairRequest) { r.group = []byte("another") }, ProblemUnknownGroup},
		"a later epoch":        {carol, carol.self, func(r *repairRequest) { r.epoch += 7 }, ""},
	} {
		send(tt.from, request(tt.from, tt.claims, tt.change))
		r := alice.mustSync()
		if tt.want == "" && len(r.Problems) != 0 || tt.want != "" && !hasProblem(r, tt.want) || len(alice.state(id).Lost) != 0 {
			t.Errorf("%s: %+v, %+v", name, r, alice.state(id))
		}
	}
	real := request(carol, carol.self, nothing)
	altered := bytes.Clone(real)
	altered[5] ^= 1
	send(carol, altered)
	if r := alice.mustSync(); !hasProblem(r, ProblemForbidden) {
		t.Errorf("altered: %+v", r)
	}
	send(carol, real)
	w.mended(alice)
	if s := alice.state(id); s.Epoch != 2 || len(s.Lost) != 0 {
		t.Fatalf("the real one: %+v", s)
	}
	carol.mustSync() // asked though she could follow: removed and added again
	if s := carol.state(id); s.Epoch != 2 || s.Blocked != nil {
		t.Errorf("Carol: %+v", s)
	}
	send(bob, real) // somebody sends it once more
	w.mended(alice)
	if s := alice.state(id); s.Epoch != 2 || len(s.Lost) != 0 {
		t.Errorf("an old request counts: %+v", s)
	}
	alice.reads(carol.encrypt(id, "all the same"), "all the same", carol)
}

// TestLostStateIsRepaired: the live group is gone from the state, which is no
// roll-back, since the state says so itself.
func TestLostStateIsRepaired(t *testing.T) {
	t.Parallel()
	w, alice, bob, id := newPair(t)
	old := alice.encrypt(id, "before")
	group := bob.state(id).group(t, bob)
	err := bob.update(t.Context(), bob.self, func(_ *state.Tx, v *view) error {
		v.delete(groupKey(bob.self, group))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	carol := w.user("carol")
	if _, err := bob.Add(t.Context(), bob.self, id, accounts(carol)); err == nil || errors.Is(err, ErrNoConversation) {
		t.Fatalf("a Commit without a group: %v", err)
	}
	if s := bob.state(id); !s.Broken || !errors.Is(s.Blocked, ErrBroken) {
		t.Fatalf("%+v", s)
	}
	bob.mustSync()
	w.mended(alice, bob)
	bob.reads(alice.encrypt(id, "after"), "after", alice)
	alice.reads(bob.encrypt(id, "and back"), "and back", bob)
	bob.reads(old, "before", alice)
}

// TestRepairAsksAgain: a request that nobody could grant is made again a day
// later, and not before.
func TestRepairAsksAgain(t *testing.T) {
	t.Parallel()
	w, _, _, carol, id := splitOff(t)
	notices := func() (n int) {
		for _, e := range w.wire.requests() {
			if e.is("POST", "/v1/tx") && e.status == 200 {
				if c := decodeJSON[keyapi.Tx](t, e.sent).Commit; c != nil && len(c.Notice) > 0 {
					n++
				}
			}
		}
		return n
	}
	for range 3 {
		carol.mustSync()
		w.clock.advance(time.Hour)
	}
	if n := notices(); n != 1 {
		t.Errorf("%d requests in three hours, want 1", n)
	}
	carol.crash()
	w.clock.advance(askAgain)
	carol.mustSync()
	if n := notices(); n != 2 || !carol.state(id).Broken {
		t.Errorf("%d requests after a day, want 2", n)
	}
}

// TestReplace: a member makes another group for the conversation. All are told,
// nobody is added, history stays.
func TestReplace(t *testing.T) {
	t.Parallel()
	_, alice, bob, carol, id := newTrio(t)
	alice.splitCommit(id)
	old := alice.encrypt(id, "in the old group")
	carol.mustSync()
	before := alice.state(id).group(t, alice)
	s, err := alice.Replace(t.Context(), alice.self, id)
	if err != nil || bytes.Equal(s.group(t, alice), before) || len(s.Members) != 3 || s.ID != id {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, d := range []*device{bob, carol} {
		if r := d.mustSync(); !slices.Contains(r.Replaced, id) || !r.tells(NoticeReplaced, alice.self) {
			t.Errorf("%s is not told: %+v", d.self, r)
		}
	}
	if s, err := alice.Status(t.Context(), alice.self); err != nil || len(s.Notices) == 0 || s.Notices[0].Kind != NoticeReplaced {
		t.Errorf("Alice's own notice: %+v, %v", s.Notices, err)
	}
	alice.reads(old, "in the old group", alice)
	for _, from := range []*device{alice, bob, carol} {
		b := from.encrypt(id, "in the new group")
		for _, to := range []*device{alice, bob, carol} {
			to.reads(b, "in the new group", from)
		}
	}
	if _, err := carol.Replace(t.Context(), carol.self, newID(t)); !errors.Is(err, ErrNoConversation) {
		t.Errorf("nothing to replace: %v", err)
	}
}

// TestBranchIsAccepted: another program may make the new group as a branch of the
// old one (RFC 9420 section 11.3), which only a member can; one with somebody new
// in it is refused.
func TestBranchIsAccepted(t *testing.T) {
	t.Parallel()
	w, alice, bob, id := newPair(t)
	mallory := w.user("mallory")
	conv, err := alice.member(t.Context(), alice.self, id)
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := alice.reader(t.Context(), alice.self).group(conv.Group, conv.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	life := lifetime(w.clock.now())
	capabilities := mls.DefaultCapabilities(suitePQ, extensionBinding)
	next, m, err := g.Branch(mls.SuccessorOptions{
		Add: []*mls.KeyPackage{bob.unusedKeyPackage(suitePQ)}, Lifetime: life, Capabilities: &capabilities,
		SameMember: sameMember, Now: w.clock.now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	welcome, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	r := w.deliver(bob, mallory, &keyapi.Delivery{
		Type: keyapi.DeliveryWelcome, Conversation: id[:], Kind: KindGroup, Group: []byte(next.ID()), Epoch: 1,
		Sender: alice.self, Message: welcome,
	})
	if len(r.Problems) != 0 || !slices.Contains(r.Replaced, id) || !bytes.Equal(bob.state(id).group(t, bob), []byte(next.ID())) {
		t.Errorf("%+v; want the branch", r)
	}
}

// TestLostMemberIsNotLuredAway: an evil key server that works with a stranger
// makes a group with the id of the one that Carol lost track of. Its members are
// real, for KeyPackages can be had of anybody, but the Welcome is not by one of
// those whom she knew in it.
func TestLostMemberIsNotLuredAway(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, id := splitOff(t)
	carol.mustSync()
	mallory := w.user("mallory")
	who, err := mallory.identity(t.Context(), mallory.self)
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.identity, f.groupID = who.private(), mls.GroupID(carol.state(id).group(t, carol))
	d, _ := f.welcome(mallory.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, bob, carol)
	conv, err := carol.reader(t.Context(), carol.self).conversation(id)
	if err != nil {
		t.Fatal(err)
	}
	if conv.Epoch != 1 {
		t.Fatalf("Carol holds epoch %d", conv.Epoch)
	}
	// The forged group is younger than what she holds: refused for that alone.
	if r := w.deliver(carol, mallory, d); !hasProblem(r, ProblemForbidden) || !carol.state(id).Broken {
		t.Errorf("%+v", r)
	}
	// And one that is older, for its maker.
	f.epochs = 3
	d, _ = f.welcome(mallory.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, bob, carol)
	if r := w.deliver(carol, mallory, d); d.Epoch <= conv.Epoch || !hasProblem(r, ProblemForbidden) || !carol.state(id).Broken {
		t.Errorf("epoch %d: %+v", d.Epoch, r)
	}
}
