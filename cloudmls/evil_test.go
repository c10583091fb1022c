package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// forger makes MLS objects that no honest client makes, for an evil key server
// to hand out.
type forger struct {
	t        *testing.T
	w        *world
	identity ed25519.PrivateKey
	ballast  int         // octets of a useless leaf extension in groups
	classic  bool        // of the suite without post-quantum protection
	groupID  mls.GroupID // of groups; "" is a random one
	epochs   int         // that a group has before the victims join
	invented int         // members of it that nobody is
	beside   []mls.Extension
}

func (f *forger) suite() mls.CipherSuite {
	if f.classic {
		return suite
	}
	return suitePQ
}

func (w *world) forger() *forger {
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return &forger{t: w.t, w: w, identity: identity}
}

// keyPackage makes one that claims to be an account's.
func (f *forger) keyPackage(claims Account) []byte {
	f.t.Helper()
	life := lifetime(f.w.clock.now())
	signature, credential, err := certify(claims, f.identity, f.suite(), life)
	if err != nil {
		f.t.Fatal(err)
	}
	capabilities := mls.DefaultCapabilities(f.suite(), extensionBinding)
	kp, _, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: f.suite(), Credential: credential, SignatureKey: signature, Lifetime: life, Capabilities: &capabilities,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := kp.MarshalBinary()
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// welcome makes a group whose creator claims to be an account, adds victims by
// real KeyPackages of theirs, and gives it as a delivery.
func (f *forger) welcome(claims Account, b binding, victims ...*device) (*keyapi.Delivery, *mls.Group) {
	f.t.Helper()
	life := lifetime(f.w.clock.now())
	signature, credential, err := certify(claims, f.identity, f.suite(), life)
	if err != nil {
		f.t.Fatal(err)
	}
	capabilities := mls.DefaultCapabilities(f.suite(), extensionBinding)
	var ballast []mls.Extension
	if f.ballast > 0 {
		ballast = []mls.Extension{{Type: mls.ExtensionApplicationID, Data: make([]byte, f.ballast)}}
	}
	g, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: f.suite(), Credential: credential, SignatureKey: signature, Lifetime: life,
		Capabilities: &capabilities, Validate: validateCredential, LeafExtensions: ballast, GroupID: f.groupID,
		Extensions: append([]mls.Extension{{Type: extensionBinding, Data: b.marshal()}}, f.beside...),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	for range f.epochs {
		empty, err := g.Commit(mls.CommitOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		g = empty.Staged.Group()
	}
	o := mls.CommitOptions{Now: f.w.clock.now()}
	for _, v := range victims {
		o.Add = append(o.Add, v.unusedKeyPackage(f.suite()))
	}
	for i := range f.invented {
		kp, err := mls.ParseKeyPackage(f.keyPackage(account(fmt.Sprintf("nobody%d", i))))
		if err != nil {
			f.t.Fatal(err)
		}
		o.Add = append(o.Add, kp)
	}
	pending, err := g.Commit(o)
	if err != nil {
		f.t.Fatal(err)
	}
	welcome, err := pending.Welcome.MarshalBinary()
	if err != nil {
		f.t.Fatal(err)
	}
	next := pending.Staged.Group()
	return &keyapi.Delivery{
		Type: keyapi.DeliveryWelcome, Conversation: b.conversation[:], Kind: b.kind,
		Group: []byte(next.ID()), Epoch: uint64(next.Epoch()), Sender: claims, Message: welcome,
	}, next
}

// unusedKeyPackage takes one of the device's published ones.
func (d *device) unusedKeyPackage(cs mls.CipherSuite) *mls.KeyPackage {
	d.t.Helper()
	r, err := d.reader(d.t.Context(), d.self).keyPackages()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, p := range slices.Backward(r.Packages) {
		if p.LastResort || p.suite() != uint16(cs) {
			continue
		}
		s, err := mls.ParseKeyPackageSecrets(p.Secrets)
		if err != nil {
			d.t.Fatal(err)
		}
		if s.KeyPackage().CipherSuite() == cs {
			return s.KeyPackage()
		}
	}
	d.t.Fatal("no KeyPackage")
	return nil
}

// deliver makes the evil server hand the victim a forged message in place of
// the next real one, which mallory causes by a group of her own.
func (w *world) deliver(victim, mallory *device, d *keyapi.Delivery) SyncResult {
	w.t.Helper()
	mallory.ensureGroup(newID(w.t), victim)
	done := false
	w.wire.set(nil, func(e *exchange) {
		if done || !e.is("GET", "/v1/delivery/email/"+victim.self.ID) || e.status != 200 {
			return
		}
		page := decodeJSON[keyapi.Deliveries](w.t, e.answered)
		if len(page.Messages) == 0 {
			return
		}
		forged := *d
		forged.Seq = page.Messages[0].Seq
		page.Messages[0] = forged
		e.answered = encodeJSON(w.t, page)
		done = true
	})
	defer w.wire.set(nil, nil)
	r := victim.mustSync()
	if !done {
		w.t.Fatal("the forged message was not delivered")
	}
	return r
}

func hasProblem(r SyncResult, kind ProblemKind) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Kind == kind })
}

// TestFlaw01_DialogCannotBeTakenOver: in 2022 a stranger's Welcome with the
// right name replaced a dialog's group. Here even one that the key server
// itself passes on does not.
func TestFlaw01_DialogCannotBeTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	before := bob.state(id)
	group := before.group(t, bob)
	bound := func(kind Kind, id ConversationID, origin string) binding {
		return binding{kind: kind, conversation: id, origin: origin}
	}
	f := w.forger()
	for name, tt := range map[string]struct {
		claims Account
		b      binding
		want   ProblemKind
	}{
		"Mallory says she is Alice":     {alice.self, bound(KindDialog, id, w.ks.Origin), ProblemIdentityChanged},
		"Mallory under her own name":    {mallory.self, bound(KindDialog, id, w.ks.Origin), ProblemForbidden},
		"as a group of that id":         {mallory.self, bound(KindGroup, id, w.ks.Origin), ProblemForbidden},
		"of another key server":         {alice.self, bound(KindDialog, id, "https://evil.example"), ProblemForbidden},
		"Bob twice":                     {bob.self, bound(KindDialog, id, w.ks.Origin), ProblemForbidden},
		"a self conversation from afar": {bob.self, bound(KindSelf, groupid.Self(PlatformEmail, bob.self.ID), w.ks.Origin), ProblemForbidden},
	} {
		d, evil := f.welcome(tt.claims, tt.b, bob)
		r := w.deliver(bob, mallory, d)
		if !hasProblem(r, tt.want) || len(r.Problems) != 1 || len(r.Replaced) != 0 || slices.Contains(r.Joined, id) {
			t.Errorf("%s: %+v; want %q", name, r, tt.want)
		}
		if got := bob.state(id).group(t, bob); !bytes.Equal(got, group) || bytes.Equal(got, []byte(evil.ID())) {
			t.Fatalf("%s: the dialog's group was replaced", name)
		}
		secret := bob.encrypt(id, "for Alice alone")
		alice.reads(secret, "for Alice alone", bob)
		m, err := mls.ParseMessage(secret)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := evil.Process(m, w.clock.now()); err == nil {
			t.Fatalf("%s: Mallory reads: %+v", name, got)
		}
	}
	bob.cleanSync()
}

// TestFlaw01_GroupCannotBeTakenOver: a new group for a known conversation only
// counts if it adds nobody.
func TestFlaw01_GroupCannotBeTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	group := bob.state(id).group(t, bob)
	b := binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}
	f := w.forger()
	for name, claims := range map[string]Account{"a stranger": mallory.self, "a false Alice": alice.self} {
		d, _ := f.welcome(claims, b, bob)
		if r := w.deliver(bob, mallory, d); !hasProblem(r, ProblemForbidden) {
			t.Errorf("%s: %+v", name, r)
		}
		if !bytes.Equal(bob.state(id).group(t, bob), group) {
			t.Fatalf("%s: the group was replaced", name)
		}
	}
	alice.reads(bob.encrypt(id, "for Alice"), "for Alice", bob)
}

// TestReplacementByTheSamePeople is what the rule allows, and people are told.
func TestReplacementByTheSamePeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	old := alice.encrypt(id, "in the old group")
	bob.reads(old, "in the old group", alice)
	a, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.identity = a.private()
	d, next := f.welcome(alice.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, bob)
	r := w.deliver(bob, carol, d)
	if len(r.Problems) != 0 || !slices.Contains(r.Replaced, id) {
		t.Fatalf("%+v; want a replacement", r)
	}
	if !bytes.Equal(bob.state(id).group(t, bob), []byte(next.ID())) {
		t.Error("the new group does not serve the conversation")
	}
	bob.reads(old, "in the old group", alice) // history is never thrown away
}

// TestFlaw07_KeyPackageUsedOnce: 2022 used one KeyPackage in all groups for 30
// days and never deleted its private part.
func TestFlaw07_KeyPackageUsedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	var welcome keyapi.Delivery
	claimed := map[string]bool{}
	w.wire.set(nil, func(e *exchange) {
		if e.is("POST", "/v1/keypackages/email/bob@example.org/claim") && e.status == 200 {
			kp := decodeJSON[keyapi.ClaimedKeyPackage](t, e.answered)
			if kp.LastResort || claimed[string(kp.KeyPackage)] {
				t.Error("a KeyPackage was handed out twice")
			}
			claimed[string(kp.KeyPackage)] = true
		}
		if e.is("GET", "/v1/delivery/email/bob@example.org") && e.status == 200 {
			for _, d := range decodeJSON[keyapi.Deliveries](t, e.answered).Messages {
				welcome = d
			}
		}
	})
	alice.ensureDialog(bob)
	bob.cleanSync()
	carol.ensureDialog(bob)
	alice.ensureGroup(newID(t), bob)
	if len(claimed) != 3 {
		t.Fatalf("%d KeyPackages were claimed, want 3", len(claimed))
	}
	bob.cleanSync()
	kept, err := bob.reader(t.Context(), bob.self).keyPackages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range kept.Packages {
		s, err := mls.ParseKeyPackageSecrets(p.Secrets)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := s.KeyPackage().MarshalBinary(); claimed[string(b)] {
			t.Error("the private part of a used KeyPackage is still there")
		}
	}
	replayed := welcome
	if r := w.deliver(bob, carol, &replayed); !hasProblem(r, ProblemNoKeyPackage) {
		t.Errorf("a Welcome for a used KeyPackage: %+v", r)
	}
}

// TestFlaw08_IdentityIsMatched: 2022 never compared a KeyPackage with the
// address asked for.
func TestFlaw08_IdentityIsMatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	substitute := func(b []byte) {
		w.wire.set(nil, func(e *exchange) {
			if e.is("POST", "/v1/keypackages/email/bob@example.org/claim") {
				e.status, e.answered = 200, encodeJSON(t, keyapi.ClaimedKeyPackage{KeyPackage: b})
			}
		})
	}
	try := func(id ConversationID) error {
		_, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(bob)})
		return err
	}
	theirs, err := mallory.unusedKeyPackage(suitePQ).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	substitute(theirs)
	var bad *BadKeyPackageError
	if err := try(newID(t)); !errors.As(err, &bad) || bad.Account != bob.self {
		t.Errorf("another account's KeyPackage: %v", err)
	}
	altered := bytes.Clone(theirs)
	altered[len(altered)-1] ^= 1
	substitute(altered)
	if err := try(newID(t)); !errors.As(err, &bad) {
		t.Errorf("an altered KeyPackage: %v", err)
	}
	substitute([]byte("garbage"))
	if err := try(newID(t)); !errors.As(err, &bad) {
		t.Errorf("garbage: %v", err)
	}
	w.wire.set(nil, nil)
	dialog := alice.ensureDialog(bob) // Bob's key is pinned now
	f := w.forger()
	substitute(f.keyPackage(bob.self))
	var changed *IdentityChangedError
	if err := try(newID(t)); !errors.As(err, &changed) || changed.Account != bob.self {
		t.Errorf("a false Bob: %v", err)
	}
	w.wire.set(nil, nil)
	if list, err := alice.Conversations(t.Context(), alice.self); err != nil || len(list) != 1 {
		t.Errorf("conversations: %v, %v", list, err)
	}
	bob.reads(alice.encrypt(dialog, "still us"), "still us", alice)
}

// TestChangedIdentity: Bob lost everything and registered anew. His Welcome is
// held, sending is blocked, until Alice accepts the new key.
func TestChangedIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	old := bob.encrypt(id, "the old Bob")
	alice.reads(old, "the old Bob", bob)
	f := w.forger()
	public := f.identity.Public().(ed25519.PublicKey)
	d, _ := f.welcome(bob.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, alice)
	if r := w.deliver(alice, mallory, d); !hasProblem(r, ProblemIdentityChanged) {
		t.Fatalf("%+v", r)
	}
	alice.encrypt(id, "still to the old Bob")
	if err := alice.AcceptIdentity(t.Context(), alice.self, bob.self, public); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(alice.state(id).group(t, alice), d.Group) {
		t.Fatal("the held Welcome did not count")
	}
	alice.encrypt(id, "to the new Bob")
	p := alice.decrypt(old)
	if !p.Verified {
		t.Errorf("what the old Bob wrote is not verified any more: %v", p.Warnings)
	}
	key, pinned, err := alice.Pinned(t.Context(), alice.self, bob.self)
	if err != nil || !pinned || !bytes.Equal(key, public) {
		t.Errorf("pinned %x, %v, %v", key, pinned, err)
	}
}

func TestSendingToAChangedMemberIsBlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	alice.ensureDialog(bob) // pins Bob
	f := w.forger()
	id := newID(t)
	d, theirs := f.welcome(bob.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, alice)
	if r := w.deliver(alice, mallory, d); len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
	m, err := theirs.Protect([]byte("it is me, Bob"), mls.ProtectOptions{
		AuthenticatedData: authData(theirs.EpochAuthenticator(), uint32(theirs.OwnLeaf()), 0, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	alice.warned(b, WarningIdentityChanged)
	var changed *IdentityChangedError
	if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("secret"), nil); !errors.As(err, &changed) || changed.Account != bob.self {
		t.Fatalf("got %v, want IdentityChangedError", err)
	}
	// The real Bob is not blocked by it: his key is the one that was pinned.
	r, err := alice.Reach(t.Context(), alice.self, bob.self)
	if err != nil || !r.Pinned || r.Changed || !r.HasAccount {
		t.Errorf("reach %+v, %v", r, err)
	}
	if err := alice.AcceptIdentity(t.Context(), alice.self, bob.self, changed.Key); err != nil {
		t.Fatal(err)
	}
	alice.encrypt(id, "accepted")
}

// TestGarbageDoesNotBlock: what cannot be used is reported and skipped.
func TestGarbageDoesNotBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	group := bob.state(id).group(t, bob)
	deliveries := map[string]keyapi.Delivery{
		"text as a Welcome":       {Type: keyapi.DeliveryWelcome, Conversation: id[:], Kind: KindGroup, Group: group, Epoch: 2, Message: []byte("text")},
		"text as a Commit":        {Type: keyapi.DeliveryCommit, Conversation: id[:], Kind: KindGroup, Group: group, Epoch: 2, Message: []byte("text")},
		"nothing":                 {Type: keyapi.DeliveryCommit, Conversation: id[:], Kind: KindGroup, Group: group, Epoch: 2},
		"unknown type":            {Type: "novelty", Conversation: id[:], Kind: KindGroup, Group: group, Epoch: 2},
		"Commit of no group":      {Type: keyapi.DeliveryCommit, Conversation: make([]byte, 16), Kind: KindGroup, Group: []byte("x"), Epoch: 2},
		"short conversation id":   {Type: keyapi.DeliveryCommit, Conversation: []byte{1}, Kind: KindGroup, Group: group, Epoch: 2},
		"application as a Commit": {Type: keyapi.DeliveryCommit, Conversation: id[:], Kind: KindGroup, Group: group, Epoch: 2, Message: alice.encrypt(id, "text")},
	}
	for name, d := range deliveries {
		r := w.deliver(bob, mallory, &d)
		if len(r.Problems) != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	alice.ensureGroup(id, mallory) // the real next Commit comes after all that
	if r := bob.cleanSync(); !slices.Contains(r.Changed, id) {
		t.Errorf("the next Commit: %+v", r)
	}
	bob.reads(alice.encrypt(id, "and on"), "and on", alice)
}
