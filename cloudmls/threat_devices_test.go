package cloudmls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// field reads a vector of RFC 9420 section 2.1.2 from the beginning of b.
func field(t *testing.T, b []byte) (v, rest []byte) {
	t.Helper()
	if len(b) == 0 {
		t.Fatal("end of octets")
	}
	n, size := int(b[0]&0x3f), 1<<(b[0]>>6)
	for i := 1; i < size; i++ {
		n = n<<8 | int(b[i])
	}
	return b[size : size+n], b[size+n:]
}

// senderData opens the sender data of a message (RFC 9420 section 6.3.2) with
// what an archive record has, apart from this project's own MLS: the leaf, the
// generation, and the reuse guard that went into the nonce.
func senderData(t *testing.T, r *epochRecord, message []byte) (leaf, generation uint32, guard [4]byte) {
	t.Helper()
	aead, nonce, aad, sealed := senderDataKey(t, r, message)
	plain, err := aead.Open(nil, nonce, sealed, aad)
	if err != nil || len(plain) != 12 {
		t.Fatalf("sender data: %d octets, %v", len(plain), err)
	}
	return binary.BigEndian.Uint32(plain), binary.BigEndian.Uint32(plain[4:]), [4]byte(plain[8:])
}

// senderDataKey gives what the sender data of a message are sealed with, and
// where they are.
func senderDataKey(t *testing.T, r *epochRecord, message []byte) (aead cipher.AEAD, nonce, aad, sealed []byte) {
	t.Helper()
	b, err := r.archive.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	b = b[2+2+2:]           // format, version, cipher suite
	group, b := field(t, b) // GroupContext
	b = b[8:]
	for range 3 { // tree hash, transcript hash, extensions
		_, b = field(t, b)
	}
	_, b = field(t, b[8:]) // leaves, own leaf, encryption_secret
	secret, _ := field(t, b)

	m := message[4:] // version, wire format
	inMessage, m := field(t, m)
	if !bytes.Equal(group, inMessage) {
		t.Fatal("the message is of another group")
	}
	head := m[:9]          // epoch, content type
	_, m = field(t, m[9:]) // authenticated data, which SenderDataAAD leaves out
	encrypted, m := field(t, m)
	ciphertext, _ := field(t, m)
	expand := func(label string, n int) []byte {
		info := binary.BigEndian.AppendUint16(nil, uint16(n))
		label = "MLS 1.0 " + label
		info = append(append(info, byte(len(label))), label...)
		sample := ciphertext[:min(32, len(ciphertext))]
		info = append(append(info, byte(len(sample))), sample...)
		k, err := hkdf.Expand(sha256.New, secret, string(info), n)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	block, err := aes.NewCipher(expand("key", 16))
	if err != nil {
		t.Fatal(err)
	}
	if aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	aad = append([]byte{byte(len(group))}, group...)
	return aead, expand("nonce", 12), append(aad, head...), encrypted
}

// TestThreat21_SameBlockServedTwice: the server lets two devices of a user
// reserve the same generations, each in a world of its own. Their messages have
// keys in common then, but no nonce, and whoever gets both is told.
func TestThreat21_SameBlockServedTwice(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	phone := s.unread()
	phone.cleanSync()
	s.evil.Fork("unread")
	type place struct{ leaf, generation uint32 }
	laptopAt, phoneAt := map[place][4]byte{}, map[place][4]byte{}
	var fromLaptop, fromPhone [][]byte
	conv, err := s.alice.member(t.Context(), s.alice.self, s.dialog)
	if err != nil {
		t.Fatal(err)
	}
	record, err := s.alice.epoch(t.Context(), s.alice.self, conv.Group, conv.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 * blockSize {
		for _, d := range []*device{s.alice, phone} {
			b := d.encrypt(s.dialog, fmt.Sprintf("message %d", n))
			leaf, generation, guard := senderData(t, record, b)
			at := laptopAt
			if d == phone {
				at = phoneAt
				fromPhone = append(fromPhone, b)
			} else {
				fromLaptop = append(fromLaptop, b)
			}
			if _, twice := at[place{leaf, generation}]; twice {
				t.Fatalf("one device used generation %d twice", generation)
			}
			at[place{leaf, generation}] = guard
		}
	}
	shared := 0
	for p, guard := range laptopAt {
		other, ok := phoneAt[p]
		if !ok {
			continue
		}
		shared++
		if guard == other || [2]byte(guard[:2]) == [2]byte(other[:2]) {
			t.Errorf("generation %d: both devices used the reuse guard %x", p.generation, guard)
		}
	}
	if shared < blockSize {
		t.Fatalf("only %d generations were served twice", shared)
	}
	marked := 0
	for i := range fromLaptop {
		s.bob.reads(fromLaptop[i], fmt.Sprintf("message %d", i), s.alice)
	}
	for i := range fromPhone {
		if p := s.bob.decrypt(fromPhone[i]); slices.Contains(p.Warnings, WarningReplay) {
			marked++
		}
	}
	if marked != shared {
		t.Errorf("%d of %d messages at a place that was used are marked", marked, shared)
	}
}

// isCommitOf chooses transactions with a Commit that a device sent.
func (h *hostile) isCommitOf(device string) evil.Match {
	return evil.From(func(e *evil.Exchange) bool {
		return evil.To("POST", "/v1/tx")(e) && decodeJSON[keyapi.Tx](h.t, e.Sent).Commit != nil
	}, device)
}

// TestThreat24_CrashAroundTheCommit: a device dies when its Commit was accepted
// and before it knows, or before its Commit was accepted. Another device of the
// user goes on, the first one comes back, and there is one group.
func TestThreat24_CrashAroundTheCommit(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]evil.Act{"accepted, not told": evil.LoseAnswer, "never arrived": evil.Down} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettled(t)
			phone, dave := s.unread(), s.user("dave")
			phone.cleanSync()
			group := s.groups[0]
			died := s.evil.Always(s.isCommitOf("alice"), func(e *evil.Exchange, serve func()) {
				fault(e, serve)
				s.evil.Always(evil.From(nil, "alice"), evil.Down) // it is dead
			})
			_, err := s.alice.Ensure(t.Context(), s.alice.self, Conversation{ID: group, Kind: KindGroup, Members: accounts(dave)})
			if err == nil || died.Hits() == 0 {
				t.Fatalf("no crash: %v, %d hits", err, died.Hits())
			}
			s.alice.Close()
			s.evil.StopAll()
			if state := phone.ensureGroup(group, dave, s.bob, s.carol); state.Epoch != 2 || len(state.Members) != 4 {
				t.Fatalf("the other device: %+v", state)
			}
			text := phone.encrypt(group, "from the phone")
			for _, d := range []*device{s.bob, s.carol, dave} {
				d.reads(text, "from the phone", s.alice)
			}
			s.restart(s.alice, "alice")
			s.alice.cleanSync()
			if state := s.alice.ensureGroup(group, dave); state.Epoch != 2 {
				t.Fatalf("the device that died: %+v", state)
			}
			text = s.alice.encrypt(group, "from the laptop")
			for _, d := range []*device{s.bob, dave, phone} {
				d.reads(text, "from the laptop", s.alice)
			}
			s.alice.reads(dave.encrypt(group, "one group"), "one group", dave)
		})
	}
}

// TestThreat25_LoserRebases: of two Commits for one epoch the second is refused.
// Its maker drops it, follows the winner's, and does then what it was about to
// do, in the next epoch; nothing of what was dropped takes effect.
func TestThreat25_LoserRebases(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	dave, erin := s.user("dave"), s.user("erin")
	group := s.groups[0]
	hold, arrived, release := evil.Hold()
	s.evil.Once(s.isCommitOf("alice"), hold)
	done := make(chan error)
	go func() {
		_, err := s.alice.Ensure(t.Context(), s.alice.self, Conversation{ID: group, Kind: KindGroup, Members: accounts(dave)})
		done <- err
	}()
	<-arrived
	s.bob.ensureGroup(group, erin) // is faster
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var mine []keyapi.CommitSubmission
	for _, c := range s.submitted("alice") {
		if string(c.Conversation) == string(group[:]) && !c.Create {
			mine = append(mine, c)
		}
	}
	if len(mine) < 2 || mine[0].Epoch != 1 || mine[len(mine)-1].Epoch != 2 || bytes.Equal(mine[0].Commit, mine[len(mine)-1].Commit) {
		t.Errorf("%d Commits, not one in each epoch", len(mine))
	}
	if n := len(s.evil.Inbox(dave.self)); n != 1 {
		t.Errorf("%d messages for Dave, want the one Welcome that counts", n)
	}
	for _, d := range []*device{s.alice, s.bob, s.carol, dave, erin} {
		d.cleanSync()
		if state := d.state(group); state.Epoch != 3 || len(state.Members) != 5 || state.Broken {
			t.Errorf("%s: %+v", d.self, state)
		}
	}
	text := s.alice.encrypt(group, "all five")
	for _, d := range []*device{s.bob, s.carol, dave, erin} {
		d.reads(text, "all five", s.alice)
	}
}

// TestThreat30_TwoCommitsForOneEpoch: the delivery service has both Alice's and
// Bob's Commit accepted for one epoch and tells each half of the members of one
// of them. Whatever crosses between the halves is told to be from a fork, and is
// not taken for an altered message, or for one that may open later.
func TestThreat30_TwoCommitsForOneEpoch(t *testing.T) {
	t.Parallel()
	t.Run("two worlds", func(t *testing.T) {
		t.Parallel()
		s := newSettled(t)
		dave, erin := s.user("dave"), s.user("erin")
		group := s.groups[0]
		s.evil.Fork("bob", "erin")
		s.alice.ensureGroup(group, dave)
		s.bob.ensureGroup(group, erin)
		s.carol.cleanSync()
		ours, theirs := s.alice.encrypt(group, "Alice's half"), s.bob.encrypt(group, "Bob's half")
		s.carol.reads(ours, "Alice's half", s.alice)
		dave.reads(ours, "Alice's half", s.alice)
		erin.reads(theirs, "Bob's half", s.bob)
		s.bob.cannotRead(ours, NeverFork)
		erin.cannotRead(ours, NeverFork)
		s.alice.cannotRead(theirs, NeverFork)
		s.carol.cannotRead(theirs, NeverFork)
		dave.cannotRead(theirs, NeverFork)
		s.evil.Reunite("bob") // and his own state is from another world, too
		_, err := s.bob.Sync(t.Context(), s.bob.self)
		s.alarmed(s.bob, group, err)
	})
	t.Run("two Commits", func(t *testing.T) {
		t.Parallel()
		s := newSettled(t)
		dave, erin := s.user("dave"), s.user("erin")
		group := s.groups[0]
		before := s.evil.Conversation(KindGroup, keyserver.ConversationID(group))
		s.alice.ensureGroup(group, dave)
		fromAlice := func(d *keyapi.Delivery) bool { return d.Type == keyapi.DeliveryCommit && d.Sender == s.alice.self }
		s.evil.Withhold(s.bob.self, fromAlice)
		s.evil.SetConversation(before)
		s.bob.ensureGroup(group, erin)
		s.carol.cleanSync() // has both, and follows the first
		ours, theirs := s.alice.encrypt(group, "Alice's half"), s.bob.encrypt(group, "Bob's half")
		s.carol.reads(ours, "Alice's half", s.alice)
		s.carol.cannotRead(theirs, NeverFork)
		s.alice.cannotRead(theirs, NeverFork)
		s.bob.cannotRead(ours, NeverFork)
	})
}

// TestThreat31_CommitWithheld: the delivery service keeps a Commit back. Who
// misses it stays in the epoch, is not led into anything by way of a GroupInfo,
// cannot open an epoch of its own, and is told of later messages that they cannot
// be opened yet; and goes on as soon as the Commit comes.
func TestThreat31_CommitWithheld(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	dave := s.user("dave")
	group := s.groups[0]
	withheld := s.evil.Withhold(s.bob.self, func(d *keyapi.Delivery) bool { return d.Sender == s.alice.self })
	noWinner := s.evil.Always(evil.From(evil.To("POST", "/v1/tx"), "bob"), func(e *evil.Exchange, serve func()) {
		if serve(); e.Status != 409 {
			return
		}
		p := decodeJSON[keyapi.Problem](t, e.Answered)
		p.Winner = nil
		e.Answered = encodeJSON(t, p)
	})
	s.alice.ensureGroup(group, dave)
	later := s.alice.encrypt(group, "in the next epoch")
	if _, err := s.bob.Decrypt(t.Context(), s.bob.self, later); !errors.Is(err, ErrNotYet) {
		t.Errorf("a message of an epoch that was withheld: %v", err)
	}
	if state := s.bob.state(group); state.Epoch != 1 {
		t.Errorf("Bob is in epoch %d", state.Epoch)
	}
	if err := s.bob.Remove(t.Context(), s.bob.self, group, accounts(s.carol)); !errors.Is(err, ErrBroken) {
		t.Errorf("Bob commits into an epoch that has ended: %v", err)
	}
	if b, err := s.bob.Encrypt(t.Context(), s.bob.self, group, []byte("to whom?"), nil); !errors.Is(err, ErrBroken) || b != nil {
		t.Errorf("Bob still encrypts: %v", err)
	}
	s.bob.isStalled(group)
	if withheld.Hits() == 0 || noWinner.Hits() == 0 {
		t.Error("nothing was withheld")
	}
	for _, c := range s.submitted() {
		if len(c.Commit) == 0 {
			continue
		}
		m, err := mls.ParseMessage(c.Commit)
		if err != nil {
			t.Fatal(err)
		}
		if kind, ok := m.ContentType(); m.WireFormat() != mls.WirePrivateMessage || !ok || kind != mls.ContentCommit {
			t.Error("a Commit that is no member's: an external one is how to be led into another group")
		}
	}
	s.evil.StopAll()
	if r := s.bob.cleanSync(); !r.tells(NoticeRepaired, Account{}) {
		t.Errorf("Bob is not told that it came: %+v", r)
	}
	s.bob.reads(later, "in the next epoch", s.alice)
	if err := s.bob.Remove(t.Context(), s.bob.self, group, accounts(s.carol)); err != nil {
		t.Errorf("after the Commit came: %v", err)
	}
}

// isStalled checks that a conversation is broken because a Commit is withheld, and
// that people are told so.
func (d *device) isStalled(id ConversationID) {
	d.t.Helper()
	conv, err := d.reader(d.t.Context(), d.self).conversation(id)
	if err != nil || conv.BrokenKind != ProblemWithheld || !d.state(id).Broken {
		d.t.Errorf("%s: broken %q as %q, %v; want a Commit that is withheld", d.self, conv.Broken, conv.BrokenKind, err)
	}
	if !slices.ContainsFunc(d.notices(NoticeStalled), func(n Notice) bool { return n.Conversation == id && n.Text == conv.Broken }) {
		d.t.Errorf("%s: not told: %+v", d.self, d.notices(NoticeStalled))
	}
}

// TestThreat31_WhoOnlySends: the removal of a member is withheld from another, who
// makes no Commits, only messages. It is told by the first message of the next
// epoch, and before another message goes to the one who is out.
func TestThreat31_WhoOnlySends(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	group := s.groups[0]
	fromAlice := func(d *keyapi.Delivery) bool { return d.Sender == s.alice.self }
	s.evil.Withhold(s.bob.self, fromAlice)
	s.evil.Always(evil.From(evil.To("POST", "/v1/tx"), "bob"), func(e *evil.Exchange, serve func()) {
		if serve(); e.Status == 409 {
			p := decodeJSON[keyapi.Problem](t, e.Answered)
			p.Winner = nil
			e.Answered = encodeJSON(t, p)
		}
	})
	if err := s.alice.Remove(t.Context(), s.alice.self, group, accounts(s.carol)); err != nil {
		t.Fatal(err)
	}
	s.bob.encrypt(group, "nothing shows it yet")
	later := s.alice.encrypt(group, "Carol is out")
	s.bob.notYet(later, NotYetEpoch)
	if l := s.bob.notices(NoticeStalled); len(l) != 1 || l[0].Conversation != group || s.bob.state(group).Broken {
		t.Errorf("%+v; want it told, and nothing broken by what anybody could say", l)
	}
	if b, err := s.bob.Encrypt(t.Context(), s.bob.self, group, []byte("Carol reads this"), nil); !errors.Is(err, ErrBroken) || b != nil {
		t.Errorf("Bob writes to somebody who was removed: %v", err)
	}
	s.bob.isStalled(group)
	s.evil.StopAll()
	if r := s.bob.cleanSync(); !r.tells(NoticeRepaired, Account{}) {
		t.Errorf("%+v", r)
	}
	s.bob.reads(later, "Carol is out", s.alice)
	s.alice.reads(s.bob.encrypt(group, "I see"), "I see", s.bob)
}

// TestThreat31_ForgedEpochs: that others are in a later epoch can be said by whoever
// has seen a ciphertext. It costs the group one Commit a day, and one notice.
func TestThreat31_ForgedEpochs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	forged := outOf(t, alice.encrypt(id, "hello"), 1<<40)
	for range 3 {
		bob.notYet(forged, NotYetEpoch)
		alice.mustSync()
		alice.reads(bob.encrypt(id, "goes on"), "goes on", bob)
	}
	if s := bob.state(id); s.Epoch != 2 || s.Broken {
		t.Errorf("%+v; want one Commit", s)
	}
	if l := bob.notices(NoticeStalled); len(l) != 1 {
		t.Errorf("%+v", l)
	}
	w.clock.advance(behindAgain)
	bob.encrypt(id, "a day later")
	if e := bob.state(id).Epoch; e != 3 {
		t.Errorf("epoch %d a day later", e)
	}
}

// TestThreat32_WelcomeWithoutCommit: an honest server does not deliver the
// Welcome of a Commit that it refuses. One that does leads nobody anywhere: a
// member stays in the group as it is, and whoever is new sees by the first
// message of the real group, as they see by the first of this one, that they are
// not in the same.
func TestThreat32_WelcomeWithoutCommit(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	dave, erin := s.user("dave"), s.user("erin")
	group := s.groups[0]
	hold, arrived, release := evil.Hold()
	s.evil.Once(s.isCommitOf("alice"), hold)
	done := make(chan error)
	go func() {
		_, err := s.alice.Ensure(t.Context(), s.alice.self, Conversation{ID: group, Kind: KindGroup, Members: accounts(dave)})
		done <- err
	}()
	<-arrived
	s.bob.ensureGroup(group, erin)
	refused := s.evil.Count(evil.Any)
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var orphan keyapi.CommitSubmission
	for _, e := range s.evil.Log()[refused:] {
		if e.Device == "alice" && e.Path == "/v1/tx" && e.Status == 409 {
			if tx := decodeJSON[keyapi.Tx](t, e.Sent); tx.Commit != nil {
				orphan = *tx.Commit
			}
		}
	}
	if len(orphan.Welcome) == 0 || orphan.Epoch != 1 {
		t.Fatalf("no Commit was refused: epoch %d", orphan.Epoch)
	}
	if box := s.evil.Inbox(dave.self); len(box) != 1 || bytes.Equal(box[0].Message, orphan.Welcome) {
		t.Fatalf("the server delivered the Welcome of a Commit that it refused: %d messages", len(box))
	}

	d := &keyapi.Delivery{
		Type: keyapi.DeliveryWelcome, Conversation: orphan.Conversation, Kind: orphan.Kind, Group: orphan.Group,
		Epoch: orphan.Epoch + 1, Sender: s.alice.self, Message: orphan.Welcome,
	}
	dave.cleanSync() // is in the real group, in epoch 3
	if r := s.deliver(dave, d); len(r.Problems) != 1 || len(r.Joined)+len(r.Replaced) != 0 {
		t.Errorf("a member: %+v", r)
	}
	if state := dave.state(group); state.Epoch != 3 || state.Broken {
		t.Errorf("the member: %+v", state)
	}
	real := s.alice.encrypt(group, "the real group")
	dave.reads(real, "the real group", s.alice)

	// The same for somebody who knows nothing of the group: everything that the
	// server says of it has to fit what the Welcome says of itself.
	for name, change := range map[string]func(d *keyapi.Delivery){
		"another epoch":        func(d *keyapi.Delivery) { d.Epoch++ },
		"another group":        func(d *keyapi.Delivery) { d.Group = []byte("another") },
		"another conversation": func(d *keyapi.Delivery) { d.Conversation = slices.Repeat([]byte{3}, 16) },
		"another kind":         func(d *keyapi.Delivery) { d.Kind = KindDialog },
	} {
		frank := s.user("frank-" + name[8:])
		f := s.forger()
		id := newID(t)
		forged, _ := f.welcome(s.alice.self, binding{kind: KindGroup, conversation: id, origin: s.ks.Origin}, frank)
		change(forged)
		if r := s.deliver(frank, forged); len(r.Joined) != 0 || !hasProblem(r, ProblemForbidden) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
