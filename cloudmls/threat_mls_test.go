package cloudmls

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// insider is a member with a program of its own: its MLS checks nothing of what
// its user makes.
type insider struct {
	t    *testing.T
	h    *hostile
	who  Account
	key  ed25519.PrivateKey // of the account, which it has
	g    *mls.Group
	b    binding
	kind keyapi.Kind
}

func anyCredential(mls.CredentialCheck) error { return nil }

// newInsider makes a group of an account's, with its real identity key.
func (h *hostile) newInsider(d *device) *insider {
	h.t.Helper()
	id, err := d.identity(h.t.Context(), d.self)
	if err != nil {
		h.t.Fatal(err)
	}
	in := &insider{t: h.t, h: h, who: d.self, key: id.private(), kind: KindGroup}
	in.b = binding{kind: KindGroup, conversation: newID(h.t), origin: h.ks.Origin}
	life := lifetime(h.clock.now())
	signature, credential := badLeaf{}.make(h.t, d.self, in.key, life)
	capabilities := mls.DefaultCapabilities(suite, extensionBinding, mls.ExtensionExternalSenders)
	in.g, err = mls.NewGroup(mls.GroupOptions{
		CipherSuite: suite, Credential: credential, SignatureKey: signature, Lifetime: life,
		Capabilities: &capabilities, Validate: anyCredential,
		Extensions: []mls.Extension{{Type: extensionBinding, Data: in.b.marshal()}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return in
}

// commit makes a Commit, enters its epoch, and gives what the delivery service
// delivers of it.
func (in *insider) commit(o mls.CommitOptions) (commit, welcome *keyapi.Delivery) {
	in.t.Helper()
	o.Now = in.h.clock.now()
	pending, err := in.g.Commit(o)
	if err != nil {
		in.t.Fatal(err)
	}
	d := keyapi.Delivery{
		Conversation: in.b.conversation[:], Kind: in.kind, Group: []byte(in.g.ID()),
		Epoch: uint64(in.g.Epoch()) + 1, Sender: in.who,
	}
	octets := func(m *mls.Message, kind string) *keyapi.Delivery {
		if m == nil {
			return nil
		}
		x := d
		x.Type = kind
		if x.Message, err = m.MarshalBinary(); err != nil {
			in.t.Fatal(err)
		}
		return &x
	}
	in.g = pending.Staged.Group()
	return octets(pending.Commit, keyapi.DeliveryCommit), octets(pending.Welcome, keyapi.DeliveryWelcome)
}

// invite lets a victim join.
func (in *insider) invite(victim *device) SyncResult {
	in.t.Helper()
	_, welcome := in.commit(mls.CommitOptions{Add: []*mls.KeyPackage{victim.ofSuite(suite)}})
	return in.h.deliver(victim, welcome)
}

func (in *insider) invited(victim *device) *insider {
	in.t.Helper()
	if r := in.invite(victim); !slices.Contains(r.Joined, in.b.conversation) || len(r.Problems) != 0 {
		in.t.Fatalf("%s did not join: %+v", victim.self, r)
	}
	return in
}

// ofSuite takes a KeyPackage of the device that is published and not used.
func (d *device) ofSuite(cs mls.CipherSuite) *mls.KeyPackage {
	d.t.Helper()
	r, err := d.reader(d.t.Context(), d.self).keyPackages()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, p := range slices.Backward(r.Packages) {
		s, err := mls.ParseKeyPackageSecrets(p.Secrets)
		if err != nil {
			d.t.Fatal(err)
		}
		if kp := s.KeyPackage(); !p.LastResort && kp.CipherSuite() == cs {
			return kp
		}
	}
	d.t.Fatal("no KeyPackage")
	return nil
}

func publicOf(t *testing.T, k mls.SignaturePrivateKey) []byte {
	t.Helper()
	public, err := k.PublicKey(suite)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// badLeaf is a credential that no Authentication Service of ours accepts.
type badLeaf struct {
	name  string
	forge func(c *keyapi.LeafCert)                                  // before the identity key signs
	after func(c *keyapi.LeafCert)                                  // what it signed is changed
	swap  func(mls.SignaturePrivateKey) (k mls.SignaturePrivateKey) // the key that is really used
	raw   func([]byte) mls.Credential
}

func (h *hostile) badLeaves() []badLeaf {
	another := func(mls.SignaturePrivateKey) mls.SignaturePrivateKey {
		k, _, err := mls.GenerateSignatureKey(suite)
		if err != nil {
			h.t.Fatal(err)
		}
		return k
	}
	return []badLeaf{
		{name: "signature of the identity key", after: func(c *keyapi.LeafCert) { c.Signature[0] ^= 1 }},
		{name: "another account written in", after: func(c *keyapi.LeafCert) { c.AccountID = "carol@example.org" }},
		{name: "another identity key written in", after: func(c *keyapi.LeafCert) { c.IdentityKey[0] ^= 1 }},
		{name: "longer written in", after: func(c *keyapi.LeafCert) { c.NotAfter += 1 << 30 }},
		{name: "another leaf key", swap: another},
		{name: "another suite", forge: func(c *keyapi.LeafCert) { c.Suite = 3 }},
		{name: "not canonical", forge: func(c *keyapi.LeafCert) { c.AccountID = "Mallory@EXAMPLE.org" }},
		{name: "no certificate", raw: func([]byte) mls.Credential { return mls.NewBasicCredential([]byte("mallory@example.org")) }},
		{name: "nothing", raw: func([]byte) mls.Credential { return mls.NewBasicCredential(nil) }},
		{name: "octets behind it", raw: func(b []byte) mls.Credential { return mls.NewBasicCredential(append(b, 0)) }},
	}
}

// make gives a signature key with a credential that is bad in this way.
func (b badLeaf) make(t *testing.T, who Account, identity ed25519.PrivateKey, life mls.Lifetime) (mls.SignaturePrivateKey, mls.Credential) {
	t.Helper()
	private, public, err := mls.GenerateSignatureKey(suite)
	if err != nil {
		t.Fatal(err)
	}
	cert := keyapi.LeafCert{
		Platform: who.Platform, AccountID: who.ID, LeafKey: public, Suite: uint16(suite), NotBefore: life.NotBefore, NotAfter: life.NotAfter,
	}
	if b.forge != nil {
		b.forge(&cert)
	}
	if err := cert.Sign(identity); err != nil {
		t.Fatal(err)
	}
	if b.after != nil {
		b.after(&cert)
	}
	octets, err := cert.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if b.swap != nil {
		private = b.swap(private)
	}
	if b.raw != nil {
		return private, b.raw(octets)
	}
	return private, mls.NewBasicCredential(octets)
}

func (h *hostile) badKeyPackage(b badLeaf, who Account, identity ed25519.PrivateKey) *mls.KeyPackage {
	h.t.Helper()
	life := lifetime(h.clock.now())
	signature, credential := b.make(h.t, who, identity, life)
	capabilities := mls.DefaultCapabilities(suite, extensionBinding)
	kp, _, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: suite, Credential: credential, SignatureKey: signature, Lifetime: life, Capabilities: &capabilities,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return kp
}

// TestThreat39_CredentialsAtEveryPoint: RFC 9420 section 5.3.1 names where a
// credential is to be validated. A leaf that our Authentication Service does not
// vouch for is refused at each: in a KeyPackage that is claimed, in an Add that
// somebody else commits, in the tree that a Welcome leads to, in the path of a
// Commit, in an Update, in an external Commit, among external senders.
func TestThreat39_CredentialsAtEveryPoint(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.pool = 90
	alice, mallory := h.user("alice"), h.user("mallory")
	id, err := mallory.identity(t.Context(), mallory.self)
	if err != nil {
		t.Fatal(err)
	}
	life := lifetime(h.clock.now())
	for _, bad := range h.badLeaves() {
		kp := h.badKeyPackage(bad, mallory.self, id.private())
		octets, err := kp.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		lie := h.evil.SubstituteKeyPackage(mallory.self, octets)
		var refused *BadKeyPackageError
		if _, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: newID(t), Kind: KindGroup, Members: accounts(mallory)}); !errors.As(err, &refused) {
			t.Errorf("%s, claimed: %v", bad.name, err)
		}
		lie.Stop()

		in := h.newInsider(mallory).invited(alice)
		commit, _ := in.commit(mls.CommitOptions{Add: []*mls.KeyPackage{kp}})
		h.refusesCommit(alice, in, commit, bad.name+", in an Add")

		in = h.newInsider(mallory)
		_, _ = in.commit(mls.CommitOptions{Add: []*mls.KeyPackage{kp}})
		if r := in.invite(alice); len(r.Joined) != 0 || len(r.Problems) != 1 {
			t.Errorf("%s, in the tree of a Welcome: %+v", bad.name, r)
		}

		in = h.newInsider(mallory).invited(alice)
		signature, credential := bad.make(t, mallory.self, id.private(), life)
		commit, _ = in.commit(mls.CommitOptions{NewSignatureKey: signature, NewCredential: &credential})
		h.refusesCommit(alice, in, commit, bad.name+", in the path of a Commit")

		in = h.newInsider(mallory).invited(alice)
		senders := mls.ExternalSenders([]mls.ExternalSender{{SignatureKey: publicOf(t, signature), Credential: credential}})
		commit, _ = in.commit(mls.CommitOptions{Proposals: []mls.Proposal{&mls.GroupContextExtensions{
			Extensions: []mls.Extension{{Type: extensionBinding, Data: in.b.marshal()}, senders},
		}}})
		h.refusesCommit(alice, in, commit, bad.name+", as an external sender")
	}
	h.successors(alice, mallory)
	h.askedDirectly(mallory.self, id.private())
}

// refusesCommit checks that a Commit that the key server delivers is reported and
// not followed.
func (h *hostile) refusesCommit(victim *device, in *insider, commit *keyapi.Delivery, what string) {
	h.t.Helper()
	before := victim.state(in.b.conversation)
	r := h.deliver(victim, commit)
	after := victim.state(in.b.conversation)
	if len(r.Problems) != 1 || len(r.Changed) != 0 || after.Epoch != before.Epoch || !slices.Equal(after.Members, before.Members) {
		h.t.Errorf("%s: %+v, then %+v", what, r, after)
	}
	if b, err := victim.Encrypt(h.t.Context(), victim.self, in.b.conversation, []byte("to whom?"), nil); !errors.Is(err, ErrBroken) || b != nil {
		h.t.Errorf("%s: others may have followed it; encrypts: %v", what, err)
	}
}

// successors: whoever changes a credential stays who they were.
func (h *hostile) successors(alice, mallory *device) {
	h.t.Helper()
	carol := h.user("carol")
	carolID, err := carol.identity(h.t.Context(), carol.self)
	if err != nil {
		h.t.Fatal(err)
	}
	life := lifetime(h.clock.now())
	for name, as := range map[string]struct {
		who Account
		key ed25519.PrivateKey
	}{
		"another account":                        {account("dave"), h.forger().identity},
		"another account's, with its own key":    {carol.self, carolID.private()},
		"the same account, another identity key": {mallory.self, h.forger().identity},
	} {
		in := h.newInsider(mallory).invited(alice)
		signature, credential := badLeaf{}.make(h.t, as.who, as.key, life)
		commit, _ := in.commit(mls.CommitOptions{NewSignatureKey: signature, NewCredential: &credential})
		h.refusesCommit(alice, in, commit, "successor: "+name)
	}
	in := h.newInsider(mallory).invited(alice) // the control: a real one is followed
	signature, credential := badLeaf{}.make(h.t, mallory.self, in.key, life)
	commit, _ := in.commit(mls.CommitOptions{NewSignatureKey: signature, NewCredential: &credential})
	if r := h.deliver(alice, commit); len(r.Problems) != 0 || len(r.Changed) != 1 {
		h.t.Errorf("a true successor: %+v", r)
	}
}

// askedDirectly is the table of all events and all bad leaves, put to the
// validator that package mls calls at each of them (TestValidationCatalogue there
// holds that it does).
func (h *hostile) askedDirectly(who Account, key ed25519.PrivateKey) {
	t := h.t
	t.Helper()
	life := lifetime(h.clock.now())
	for event := mls.CredentialInAdd; event <= mls.CredentialInOwnLeaf; event++ {
		signature, good := badLeaf{}.make(h.t, who, key, life)
		check := mls.CredentialCheck{Credential: good, SignatureKey: publicOf(t, signature), CipherSuite: suite, Context: event}
		if err := validateCredential(check); err != nil {
			h.t.Errorf("event %d: a good leaf: %v", event, err)
		}
		for _, bad := range h.badLeaves() {
			signature, credential := bad.make(h.t, who, key, life)
			check.Credential, check.SignatureKey = credential, publicOf(t, signature)
			if validateCredential(check) == nil {
				h.t.Errorf("event %d: accepted: %s", event, bad.name)
			}
		}
	}
}

// TestThreat40_ExternalCommitsAreRefused: nobody enters a group by themselves, be
// it with a GroupInfo that a member gave away, as a stranger, as somebody who is
// in the group, or in place of the victim. No member's Commit in the clear is
// followed either.
func TestThreat40_ExternalCommitsAreRefused(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice, mallory, eve := h.user("alice"), h.user("mallory"), h.user("eve")
	eveID, err := eve.identity(t.Context(), eve.self)
	if err != nil {
		t.Fatal(err)
	}
	in := h.newInsider(mallory).invited(alice)
	in.g.SetExternalCommits(true)
	info, err := in.g.GroupInfo()
	if err != nil {
		t.Fatal(err)
	}
	malloryLeaf, aliceLeaf := mls.LeafIndex(0), mls.LeafIndex(1)
	life := lifetime(h.clock.now())
	capabilities := mls.DefaultCapabilities(suite, extensionBinding, mls.ExtensionExternalSenders)
	for name, as := range map[string]struct {
		who     Account
		key     ed25519.PrivateKey
		replace *mls.LeafIndex
	}{
		"a stranger":                {eve.self, eveID.private(), nil},
		"an unknown account":        {account("nobody"), h.forger().identity, nil},
		"a member, a second time":   {mallory.self, in.key, nil},
		"a member, for itself":      {mallory.self, in.key, &malloryLeaf},
		"a stranger for the victim": {eve.self, eveID.private(), &aliceLeaf},
		"a stranger for a member":   {eve.self, eveID.private(), &malloryLeaf},
		"a false one of the victim": {alice.self, h.forger().identity, &aliceLeaf},
	} {
		signature, credential := badLeaf{}.make(t, as.who, as.key, life)
		j, err := mls.JoinExternal(mls.ExternalJoinOptions{
			GroupInfo: info, Credential: credential, SignatureKey: signature,
			Capabilities: &capabilities, Validate: anyCredential, Replace: as.replace,
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := j.Commit.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		d := &keyapi.Delivery{
			Type: keyapi.DeliveryCommit, Conversation: in.b.conversation[:], Kind: KindGroup,
			Group: []byte(in.g.ID()), Epoch: uint64(in.g.Epoch()) + 1, Sender: as.who, Message: b,
		}
		before := alice.state(in.b.conversation)
		r := h.deliver(alice, d)
		after := alice.state(in.b.conversation)
		if !hasProblem(r, ProblemGarbage) || len(r.Changed)+len(r.Removed) != 0 || after.Epoch != before.Epoch || after.Removed || after.Broken {
			t.Errorf("%s: %+v, then %+v", name, r, after)
		}
	}
	alice.encrypt(in.b.conversation, "the group is as it was")
	commit, _ := in.commit(mls.CommitOptions{Public: true})
	if r := h.deliver(alice, commit); !hasProblem(r, ProblemGarbage) || len(r.Changed) != 0 {
		t.Errorf("a member's Commit in the clear: %+v", r)
	}
}

// TestThreat41_HostileOctets: what claims to be long, deep or a key and is not,
// costs an error and little memory, wherever it comes in. The parsers' fuzz
// targets are those of package mls.
func TestThreat41_HostileOctets(t *testing.T) { // not parallel: it measures memory
	h := newHostile(t)
	alice, mallory := h.user("alice"), h.user("mallory")
	in := h.newInsider(mallory).invited(alice)
	commit, _ := in.commit(mls.CommitOptions{})
	kp, err := mallory.ofSuite(suite).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	huge := binary.BigEndian.AppendUint32(nil, 0x80000000|1<<30-1) // the longest vector there is
	nested := func(n int) []byte {
		b := []byte{}
		for range n {
			b = append([]byte{0, 2, 0xbf, 0xff, 0xff, 0xff}, b...)
		}
		return b
	}
	octets := map[string][]byte{
		"a Welcome of one long vector":    append([]byte{0, 1, 0, 3, 0, 1}, huge...),
		"a PrivateMessage of a long id":   append([]byte{0, 1, 0, 2}, huge...),
		"a KeyPackage of long vectors":    slices.Concat([]byte{0, 1, 0, 5, 0, 1, 0, 1}, huge, huge, huge),
		"a GroupInfo, nested":             slices.Concat([]byte{0, 1, 0, 4}, nested(10_000)),
		"a Welcome, nested":               slices.Concat([]byte{0, 1, 0, 3, 0, 1}, nested(10_000)),
		"a Commit with a long ciphertext": slices.Concat(commit.Message[:len(commit.Message)/2], huge),
		"lengths that are not minimal":    {0, 1, 0, 3, 0, 1, 0x40, 0x01, 0},
		"a reserved length":               {0, 1, 0, 3, 0, 1, 0xff},
		"ones":                            slices.Repeat([]byte{0xff}, 1<<16),
	}
	for i := range 64 { // and everything that one wrong octet makes of a real one
		b := slices.Clone(kp)
		b[i*len(b)/64] ^= 0xff
		octets["a KeyPackage with a wrong octet at "+string(rune('A'+i%26))+string(rune('a'+i/26))] = b
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for name, b := range octets {
		for _, kind := range []string{keyapi.DeliveryCommit, keyapi.DeliveryWelcome} {
			d := *commit
			d.Type, d.Message = kind, b
			h.evil.Deliver(d, alice.self)
		}
		if p, err := alice.Decrypt(t.Context(), alice.self, b); err == nil {
			t.Errorf("%s opens: %+v", name, p)
		}
	}
	r := alice.mustSync()
	runtime.ReadMemStats(&after)
	if len(r.Problems) != 2*len(octets) || len(r.Changed)+len(r.Joined) != 0 {
		t.Errorf("%d problems of %d; %+v", len(r.Problems), 2*len(octets), r.Changed)
	}
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 512 {
		t.Errorf("%d MiB were used for %d messages", used, 3*len(octets))
	}
	for name, b := range octets {
		lie := h.evil.SubstituteKeyPackage(mallory.self, b)
		_, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: newID(t), Kind: KindGroup, Members: accounts(mallory)})
		var bad *BadKeyPackageError
		if !errors.As(err, &bad) {
			t.Errorf("%s, as a KeyPackage: %v", name, err)
		}
		lie.Stop()
	}
	if r := h.deliver(alice, commit); len(r.Problems) != 0 || len(r.Changed) != 1 {
		t.Errorf("the real Commit after all that: %+v", r)
	}
}

// TestThreat36_RemovedIsOut: who was removed is in no tree and in no list of
// members any more, reads nothing of what comes, cannot commit, and whatever they
// still send from the old epoch is marked.
func TestThreat36_RemovedIsOut(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	group := s.groups[0]
	s.evil.Withhold(s.carol.self, nil) // she keeps all that she had
	if err := s.alice.Remove(t.Context(), s.alice.self, group, accounts(s.carol)); err != nil {
		t.Fatal(err)
	}
	s.bob.cleanSync()
	late := s.carol.encrypt(group, "I am still here") // to the epoch that she knows, before a later one makes her ask
	secret := s.alice.encrypt(group, "without Carol")
	if p, err := s.carol.Decrypt(t.Context(), s.carol.self, secret); err == nil {
		t.Errorf("Carol reads %q", p.Data)
	}
	for _, d := range []*device{s.alice, s.bob} {
		conv, err := d.member(t.Context(), d.self, group)
		if err != nil {
			t.Fatal(err)
		}
		g, _, err := d.reader(t.Context(), d.self).group(conv.Group, conv.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Members()) != 2 || slices.Contains(d.state(group).Members, s.carol.self) {
			t.Errorf("%s: Carol is still in: %+v", d.self, g.Members())
		}
		if p := d.reads(secret, "without Carol", s.alice); slices.Contains(p.Members, s.carol.self) {
			t.Errorf("%s: the message was for Carol as well", d.self)
		}
	}
	s.bob.warned(late, WarningLate)
	conv, err := s.carol.member(t.Context(), s.carol.self, group)
	if err != nil {
		t.Fatal(err)
	}
	err = s.carol.rogueCommit(group, mls.CommitOptions{Add: []*mls.KeyPackage{s.user("eve").ofSuite(conv.suite())}})
	var p *keyapi.Problem
	if !errors.As(err, &p) || p.Code != keyapi.CodeEpochConflict {
		t.Errorf("Carol commits: %v", err)
	}
	s.evil.StopAll()
	if r := s.carol.cleanSync(); !slices.Contains(r.Removed, group) {
		t.Errorf("Carol is not told: %+v", r)
	}
	s.carol.cannotRead(secret, NeverAfterRemoval)
	if n := s.evil.Count(evil.To("POST", "/v1/tx")); n == 0 {
		t.Error("nothing was sent")
	}
}
