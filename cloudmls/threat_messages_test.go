package cloudmls

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/mls"
)

// withGeneration is a message whose sender data an insider, who has the keys for
// them, has made say another generation.
func withGeneration(t *testing.T, r *epochRecord, message []byte, generation uint32) []byte {
	t.Helper()
	leaf, old, guard := senderData(t, r, message)
	aead, nonce, aad, sealed := senderDataKey(t, r, message)
	plain := binary.BigEndian.AppendUint32(nil, leaf)
	plain = append(binary.BigEndian.AppendUint32(plain, generation), guard[:]...)
	forged := bytes.Clone(message)
	at := bytes.Index(forged, sealed)
	if at < 0 || generation == old {
		t.Fatal("the sender data cannot be replaced")
	}
	copy(forged[at:], aead.Seal(nil, nonce, plain, aad))
	return forged
}

// TestThreat34_HugeGenerations: whoever is asked to follow a ratchet for billions
// of steps answers at once; were it to follow, this test would not end.
func TestThreat34_HugeGenerations(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	group := s.groups[0]
	conv, err := s.bob.member(t.Context(), s.bob.self, group)
	if err != nil {
		t.Fatal(err)
	}
	record, err := s.bob.epoch(t.Context(), s.bob.self, conv.Group, conv.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	real := s.alice.encrypt(group, "of the real generation")
	generations := []uint32{mls.MaxGeneration, 1 << 20, 1 << 31, 1<<32 - 2, 1<<32 - 1}
	for _, generation := range generations {
		s.bob.cannotRead(withGeneration(t, record, real, generation), NeverInvalid)
	}
	if _, err := s.bob.Decrypt(t.Context(), s.bob.self, real); err != nil {
		t.Errorf("the real one after that: %v", err)
	}

	// The same in the live group, by a Commit that the key server delivers.
	carols, err := s.carol.member(t.Context(), s.carol.self, group)
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := s.carol.reader(t.Context(), s.carol.self).group(carols.Group, carols.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	pending, err := g.Commit(mls.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	commit, err := pending.Commit.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, generation := range generations {
		d := &keyapi.Delivery{
			Type: keyapi.DeliveryCommit, Conversation: group[:], Kind: KindGroup, Group: conv.Group, Epoch: conv.Epoch + 1,
			Sender: s.carol.self, Message: withGeneration(t, record, commit, generation),
		}
		r := s.deliver(s.bob, d)
		if state := s.bob.state(group); !hasProblem(r, ProblemGarbage) || len(r.Changed) != 0 || state.Broken || state.Epoch != 1 {
			t.Errorf("generation %d of a handshake: %+v, then %+v", generation, r, state)
		}
	}
	s.alice.reads(s.bob.encrypt(group, "all is well"), "all is well", s.bob)
}

// TestThreat35_ContentEncryptedAgain: a member takes what another one signed, and
// encrypts it once more at another place of that one's sequence. It is marked,
// whichever comes first, on every device and after a restart, and the original is
// not.
func TestThreat35_ContentEncryptedAgain(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	const text = "pay 10"
	first := s.alice.sealAt(s.dialog, text, 1000, 1000, nil)
	copied := s.alice.sealAt(s.dialog, text, 1001, 1000, nil) // what an insider can make of it
	later := s.alice.sealAt(s.dialog, text, 1002, 1002, nil)
	early := s.alice.sealAt(s.dialog, text, 1003, 1002, nil)
	for range 2 {
		s.bob.reads(first, text, s.alice)
		s.bob.warned(copied, WarningReplay)
		s.bob.warned(early, WarningReplay) // the copy is the first to come
		s.bob.reads(later, text, s.alice)
		s.restart(s.bob, "bob")
	}
	other := s.unread() // Alice's own other device
	other.warned(copied, WarningReplay)
	other.reads(first, text, s.alice)
}

// TestThreat37_BadKeyPackages: what the key server hands out is too old, not valid
// yet, valid for too long, of a suite that nobody asked for, or used before. Only
// what is marked as a last resort serves twice.
func TestThreat37_BadKeyPackages(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice, bob, carol := h.user("alice"), h.user("bob"), h.user("carol")
	id, err := bob.identity(t.Context(), bob.self)
	if err != nil {
		t.Fatal(err)
	}
	now := h.clock.now()
	day := 24 * time.Hour
	life := func(from, to time.Duration) mls.Lifetime {
		return mls.Lifetime{NotBefore: uint64(now.Add(from).Unix()), NotAfter: uint64(now.Add(to).Unix())}
	}
	try := func(d *device, b []byte) error {
		lie := h.evil.SubstituteKeyPackage(bob.self, b)
		defer lie.Stop()
		_, err := d.Ensure(t.Context(), d.self, Conversation{ID: newID(t), Kind: KindGroup, Members: accounts(bob)})
		return err
	}
	for name, tt := range map[string]struct {
		life    mls.Lifetime
		leaf    badLeaf
		missing bool // it is not bad, only too old
	}{
		"expired":               {life: life(-30*day, -time.Hour), missing: true},
		"not valid yet":         {life: life(day, 30*day)},
		"valid for a year":      {life: life(-time.Hour, 365*day)},
		"valid for ever":        {life: mls.Lifetime{NotAfter: 1<<64 - 1}},
		"ends before it begins": {life: life(2*day, day), leaf: badLeaf{forge: func(c *keyapi.LeafCert) { c.NotBefore, c.NotAfter = c.NotAfter, c.NotBefore }}},
		"another suite":         {life: life(-time.Hour, 30*day), leaf: badLeaf{forge: func(c *keyapi.LeafCert) { c.Suite = 3 }}},
	} {
		signature, credential := tt.leaf.make(t, bob.self, id.private(), tt.life)
		capabilities := mls.DefaultCapabilities(suite, extensionBinding)
		kp, _, err := mls.NewKeyPackage(mls.KeyPackageOptions{
			CipherSuite: suite, Credential: credential, SignatureKey: signature, Lifetime: tt.life, Capabilities: &capabilities,
		})
		if err != nil {
			t.Logf("%s: cannot even be made: %v", name, err)
			continue
		}
		b, err := kp.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var bad *BadKeyPackageError
		var missing *MissingKeyPackagesError
		if err := try(alice, b); tt.missing != errors.As(err, &missing) || tt.missing == errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := bob.ofSuite(suitePQ).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for n, d := range []*device{alice, carol} { // the server gives both the same one
		if err := try(d, b); err != nil {
			t.Fatal(err)
		}
		r := bob.mustSync()
		if n == 0 && len(r.Joined) != 1 || n == 1 && (len(r.Joined) != 0 || !hasProblem(r, ProblemNoKeyPackage)) {
			t.Errorf("use %d of a KeyPackage: %+v", n+1, r)
		}
	}
}

// TestThreat38_PoolIsEmptied: somebody claims KeyPackages until there are none. A
// quota stops them, what is left for the others is the last resort, and that one
// is replaced a day after it was used, and the keys that came of it at once.
func TestThreat38_PoolIsEmptied(t *testing.T) {
	t.Parallel()
	limits := keyservertest.Unlimited()
	limits.Claims = keyserver.Rate{Burst: 30, Every: time.Hour}
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w := &world{t: t, clock: c, wire: &wire{}}
	h := &hostile{world: w, evil: evil.NewServer(t, evil.Options{Server: keyserver.Options{Now: c.now, Limits: limits}}), pool: 12}
	w.ks = h.evil.Server
	alice, bob, mallory := h.user("alice"), h.user("bob"), h.user("mallory")
	claimed, refused, lastResort := 0, 0, []byte(nil)
	for range 40 {
		err := mallory.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) error {
			k, err := mallory.o.Server.ClaimKeyPackageOf(ctx, token, bob.self, uint16(suitePQ))
			if k.LastResort {
				lastResort = k.KeyPackage
			}
			return err
		})
		switch {
		case err == nil:
			claimed++
		case isCode(err, keyapi.CodeRateLimited):
			refused++
		default:
			t.Fatal(err)
		}
	}
	if claimed != 30 || refused != 10 || lastResort == nil {
		t.Fatalf("%d were handed out, %d refused; last resort %v", claimed, refused, lastResort != nil)
	}
	id := newID(t)
	alice.ensureGroup(id, bob) // with the last resort
	joined := bob.cleanSync()
	if !slices.Contains(joined.Joined, id) {
		t.Fatalf("%+v", joined)
	}
	text := bob.encrypt(id, "with keys of my own")
	if s := bob.state(id); s.Epoch != 2 {
		t.Errorf("after a last resort: epoch %d; want fresh keys before anything is sent", s.Epoch)
	}
	alice.reads(text, "with keys of my own", bob)
	published := func() (last []byte) {
		for _, e := range h.evil.Log() {
			if e.Device == "bob" && e.Method == "POST" && e.Path == "/v1/keypackages/email/"+bob.self.ID {
				u, err := evil.Sent[keyapi.KeyPackageUpload](e)
				if err != nil {
					t.Fatal(err)
				}
				if kp, err := mls.ParseKeyPackage(u.LastResort); err == nil && kp.CipherSuite() == suitePQ {
					last = u.LastResort
				}
			}
		}
		return last
	}
	if !bytes.Equal(published(), lastResort) {
		t.Error("what was handed out is not the last resort that was published")
	}
	c.advance(lastResortUsed + poolInterval + time.Minute)
	bob.cleanSync()
	if bytes.Equal(published(), lastResort) {
		t.Error("a last resort that was used is still there a day later")
	}
}

// TestThreat42_ArchiveRecordsOpenTheirEpoch: a record opens what everybody sent in
// its epoch, the own account's too, and nothing of the epochs around it; and it
// leads to nothing else that the epoch had.
func TestThreat42_ArchiveRecordsOpenTheirEpoch(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	group := s.groups[0]
	var records []*epochRecord
	var messages [][2][]byte // of an epoch: Alice's and Bob's
	var secrets [][]byte
	for epoch := uint64(1); epoch <= 3; epoch++ {
		s.bob.cleanSync()
		conv, err := s.bob.member(t.Context(), s.bob.self, group)
		if err != nil || conv.Epoch != epoch {
			t.Fatalf("epoch %d, %v; want %d", conv.Epoch, err, epoch)
		}
		r, err := s.bob.epoch(t.Context(), s.bob.self, conv.Group, epoch)
		if err != nil {
			t.Fatal(err)
		}
		g, _, err := s.bob.reader(t.Context(), s.bob.self).group(conv.Group, epoch)
		if err != nil {
			t.Fatal(err)
		}
		token, err := commitToken(g)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, g.ResumptionPSK(), token, g.SignatureKey())
		records = append(records, r)
		messages = append(messages, [2][]byte{s.alice.encrypt(group, "from Alice"), s.bob.encrypt(group, "from Bob")})
		s.alice.ensureGroup(group, s.user("guest-"+string(rune('a'+epoch))))
	}
	for i, r := range records {
		b, err := r.archive.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if how := evil.Find(b, secret); how != "" {
				t.Errorf("the record of epoch %d has a secret of a live group, %s", i+1, how)
			}
		}
		if evil.Find(b, r.archive.EpochAuthenticator()) == "" {
			t.Error("the search finds nothing")
		}
		for j, pair := range messages {
			for k, message := range pair {
				m, err := mls.ParseMessage(message)
				if err != nil {
					t.Fatal(err)
				}
				app, err := r.archive.Open(m)
				if (err == nil) != (i == j) || err == nil && string(app.Plaintext) != []string{"from Alice", "from Bob"}[k] {
					t.Errorf("record of epoch %d, message of epoch %d: %v", i+1, j+1, err)
				}
			}
		}
	}
}
