package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"
)

func generation(n uint32) *uint32 { return &n }

// Any message of the epoch opens, in any order, any number of times, for every
// member including its sender, from records made before it was sent.
func TestArchiveOpensEverything(t *testing.T) {
	w := newWorld(t, 3, 3)
	records := w.records()
	var messages []*Message
	for i, g := range w.members {
		for n := range 5 {
			text := fmt.Appendf(nil, "%d.%d", i, n)
			messages = append(messages, wire(t, must[*Message](t)(g.Protect(text, ProtectOptions{
				AuthenticatedData: []byte("seen by all"), Padding: func(int) int { return 256 },
			}))))
		}
	}
	for round := range 2 {
		for at := len(messages) - 1; at >= 0; at-- {
			m := messages[at]
			before := encode(m)
			for i, r := range records {
				app, err := r.Open(m)
				if err != nil {
					t.Fatalf("round %d: member %d opens message %d: %v", round, i, at, err)
				}
				sender, n := at/5, at%5
				if string(app.Plaintext) != fmt.Sprintf("%d.%d", sender, n) || app.Sender != LeafIndex(sender) ||
					app.Generation != uint32(n) || app.Epoch != r.Epoch() || string(app.AuthenticatedData) != "seen by all" ||
					string(app.Credential.Identity) != fmt.Sprintf("member %d", sender) {
					t.Fatalf("member %d opens message %d: got %+v", i, at, app)
				}
			}
			if !bytes.Equal(before, encode(m)) {
				t.Fatal("message was changed by opening it")
			}
		}
	}
}

// A device that has only the record and the signature key writes what all
// others read, live or from their records.
func TestArchiveSeals(t *testing.T) {
	w := newWorld(t, 3, 3)
	records := w.records()
	sig := w.members[0].SignatureKey()
	text := []byte("from a second device")
	m := wire(t, must[*Message](t)(records[0].Seal(text, sig, ProtectOptions{Generation: generation(37), ReuseGuard: &[4]byte{1, 2, 3, 4}})))
	for i, r := range records {
		if app := must[*Application](t)(r.Open(m)); app.Generation != 37 || !bytes.Equal(app.Plaintext, text) {
			t.Errorf("record %d: got %+v", i, app)
		}
	}
	for i, g := range w.members {
		app := must[Received](t)(g.Process(m, testNow)).(*Application)
		if app.Sender != 0 || !bytes.Equal(app.Plaintext, text) {
			t.Errorf("member %d: got %+v", i, app)
		}
	}
	// The same bytes as the live group makes, given the same choices.
	live := must[*Message](t)(w.members[0].Clone().Protect(text, ProtectOptions{Generation: generation(40), ReuseGuard: &[4]byte{9}}))
	sealed := must[*Message](t)(records[0].Seal(text, sig, ProtectOptions{Generation: generation(40), ReuseGuard: &[4]byte{9}}))
	wantEqual(t, "sealed message", encode(sealed), encode(live))

	for _, test := range []struct {
		name string
		sig  SignaturePrivateKey
		gen  *uint32
		want error
	}{
		{"no generation", sig, nil, nil},
		{"too far", sig, generation(MaxGeneration), ErrGenerationTooFar},
		{"other key", newKey(t), generation(1), nil},
		{"no key", nil, generation(1), nil},
	} {
		_, err := records[0].Seal(text, test.sig, ProtectOptions{Generation: test.gen})
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	if _, err := records[0].Seal(text, sig, ProtectOptions{Generation: generation(MaxGeneration - 1)}); err != nil {
		t.Errorf("last generation: %v", err)
	}
}

func TestArchiveRefuses(t *testing.T) {
	w := newWorld(t, 3, 3)
	r := w.records()[0]
	good := must[*Message](t)(w.members[1].Protect([]byte("text"), ProtectOptions{}))
	withSender := func(d senderData) *Message {
		p := *good.private
		k := must[messageKey](t)(senderDataKey(r.suite, r.senderDataSecret, p.ciphertext))
		p.encryptedSenderData = must[[]byte](t)(r.suite.AEADSeal(k.key, k.nonce, p.senderDataAAD(), encode(&d)))
		return &Message{wireFormat: WirePrivateMessage, private: &p}
	}
	change := func(f func(p *privateMessage)) *Message {
		p := *good.private
		f(&p)
		return &Message{wireFormat: WirePrivateMessage, private: &p}
	}
	for _, test := range []struct {
		name    string
		message *Message
		want    error
	}{
		{"generation", withSender(senderData{leaf: 1, generation: MaxGeneration}), ErrGenerationTooFar},
		{"huge generation", withSender(senderData{leaf: 1, generation: math.MaxUint32}), ErrGenerationTooFar},
		{"blank sender", withSender(senderData{leaf: 3}), ErrNotMember},
		{"sender beyond tree", withSender(senderData{leaf: math.MaxUint32}), ErrNotMember},
		{"other sender", withSender(senderData{leaf: 2}), nil},
		{"group", change(func(p *privateMessage) { p.groupID = "other" }), ErrWrongGroup},
		{"earlier", change(func(p *privateMessage) { p.epoch-- }), ErrStaleEpoch},
		{"later", change(func(p *privateMessage) { p.epoch++ }), ErrFutureEpoch},
		{"ciphertext", change(func(p *privateMessage) { p.ciphertext = flip(p.ciphertext) }), nil},
		{"authenticated data", change(func(p *privateMessage) { p.authenticatedData = []byte{1} }), nil},
		{"handshake", must[*PendingCommit](t)(w.members[1].Commit(CommitOptions{})).Commit, ErrNotApplication},
		{"nothing", nil, ErrNotApplication},
	} {
		_, err := r.Open(test.message)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
}

func TestArchiveRecordFields(t *testing.T) {
	w := newWorld(t, 3, 1)
	g := w.members[2]
	r := w.records()[2]
	if r.GroupID() != g.ID() || r.Epoch() != g.Epoch() || r.OwnLeaf() != 2 || r.CipherSuite() != testSuite || !bytes.Equal(r.EpochAuthenticator(), g.EpochAuthenticator()) {
		t.Errorf("record: %v %d %d", r.GroupID(), r.Epoch(), r.OwnLeaf())
	}
	members := r.Members()
	if len(members) != 3 || members[1].Leaf != 1 || string(members[1].Credential.Identity) != "member 1" || members[1].EncryptionKey != nil {
		t.Errorf("members: %+v", members)
	}
	if s := fmt.Sprintf("%v %+v %#v %x", r, r, r, r); bytes.Contains([]byte(s), []byte("member")) || len(s) > 60 {
		t.Errorf("record prints as %s", s)
	}
	b := must[[]byte](t)(r.MarshalBinary())
	for n := range b {
		if _, err := ParseArchiveRecord(b[:n]); err == nil {
			t.Fatalf("record cut to %d bytes was accepted", n)
		}
	}
	if _, err := ParseArchiveRecord(append(bytes.Clone(b), 0)); err == nil {
		t.Error("trailing byte was accepted")
	}
	b[1]++
	if _, err := ParseArchiveRecord(b); !errors.Is(err, ErrFormat) {
		t.Errorf("unknown format: got %v", err)
	}
}
