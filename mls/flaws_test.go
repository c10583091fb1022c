package mls

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// A member that speaks as another, with its own valid keys otherwise, is
// refused: live and from the archive, messages and Commits.
func TestFlaw02_SignaturesAreVerified(t *testing.T) {
	w := newWorld(t, 3, 3)
	records := w.records()
	foreign := func(a *authenticatedContent) {
		g := w.members[1]
		if err := a.sign(g.suite, newKey(t), &g.context); err != nil {
			t.Fatal(err)
		}
	}
	m := w.sendAs(1, content{application: []byte("I am member 1")}, ContentApplication, foreign)
	w.refused(1, m, "message signature", nil)
	for i, r := range records {
		if _, err := r.Open(m); err == nil || !strings.Contains(err.Error(), "message signature") {
			t.Errorf("archive record of member %d: got %v", i, err)
		}
	}
	// Member 1 uses the keys of member 0's leaf and signs with its own.
	thief := w.members[1].Clone()
	thief.own = 0
	m = wire(t, must[*Message](t)(thief.Protect([]byte("I am member 0"), ProtectOptions{})))
	if _, err := w.members[2].Process(m, testNow); err == nil || !strings.Contains(err.Error(), "message signature") {
		t.Errorf("member 1 speaks as member 0: got %v", err)
	}
	if _, err := records[2].Open(m); err == nil || !strings.Contains(err.Error(), "message signature") {
		t.Errorf("member 1 speaks as member 0 to the archive: got %v", err)
	}
	w.refused(1, w.commitAttack(1, &attack{signer: newKey(t)}), "message signature", nil)
}

// Every bit of the confirmation tag counts, of Commits and of Welcomes.
func TestFlaw03_ConfirmationTagIsChecked(t *testing.T) {
	w := newWorld(t, 2, 2)
	for at := range 32 {
		m := w.commitAttack(1, &attack{tag: func(a *authenticatedContent) { a.auth.confirmationTag[at] ^= 0x80 }})
		w.refused(1, m, "confirmation tag", nil)
	}
	w.refused(1, w.commitAttack(1, &attack{tag: func(a *authenticatedContent) { clear(a.auth.confirmationTag) }}), "confirmation tag", nil)
	w.refused(1, w.commitAttack(1, &attack{tag: func(a *authenticatedContent) { a.auth.confirmationTag = append(a.auth.confirmationTag, 0) }}), "confirmation tag", nil)
	if _, err := w.members[0].Process(w.commitAttack(1, &attack{}), testNow); err != nil {
		t.Errorf("honest commit: %v", err)
	}
	m, secrets := w.invite(1, true, func(v *invitation) { clear(v.info.confirmationTag) })
	if _, err := JoinWelcome(m, JoinOptions{Secrets: secrets, Validate: acceptNamed}); err == nil {
		t.Error("welcome with a zero tag was accepted")
	}
}

// No two messages of a sender share a key or nonce, and a used key is gone.
func TestFlaw04_GenerationsAdvance(t *testing.T) {
	w := newWorld(t, 2, 1)
	g, h := w.members[0], w.members[1]
	record := must[*ArchiveRecord](t)(h.Archive())
	keys := map[string]bool{}
	for i := range 40 {
		m := wire(t, must[*Message](t)(g.Protect([]byte("same text"), ProtectOptions{ReuseGuard: &[4]byte{}})))
		app := must[Received](t)(h.Process(m, testNow)).(*Application)
		if app.Generation != uint32(i) {
			t.Fatalf("message %d has generation %d", i, app.Generation)
		}
		k := must[messageKey](t)(record.key(app.Sender, app.Generation))
		if keys[string(k.key)] || keys[string(k.nonce)] {
			t.Fatalf("message %d reuses a key or nonce", i)
		}
		keys[string(k.key)], keys[string(k.nonce)] = true, true
		if _, err := h.keys.use(h.suite, g.own, applicationRatchet, app.Generation, 0); !errors.Is(err, ErrReplayed) {
			t.Fatalf("key of message %d is still there: %v", i, err)
		}
	}
	if _, err := h.Archive(); !errors.Is(err, ErrConsumed) {
		t.Errorf("encryption secret is still there: %v", err)
	}
	for n := range h.keys.nodes {
		if g.own.node().InSubtree(n) {
			t.Errorf("secret of node %d above the sender is still there", n)
		}
	}
}

// secretValues are all secrets of a group but the two that are archived.
func secretValues(g *Group) map[string][]byte {
	s := map[string][]byte{
		"init": g.secrets.init, "exporter": g.secrets.exporter, "external": g.secrets.external,
		"confirmation": g.secrets.confirmation, "membership": g.secrets.membership,
		"resumption": g.secrets.resumption, "signature": g.signature,
	}
	for n, key := range g.private {
		s[fmt.Sprintf("private key of node %d", n)] = key
	}
	return s
}

// Old epochs are kept as archive records, which hold no secret but two; and a
// group keeps nothing of the epochs before.
func TestFlaw06_ArchiveHoldsNoEpochSecrets(t *testing.T) {
	w := newWorld(t, 3, 3)
	g := w.members[0]
	b := must[[]byte](t)(must[*ArchiveRecord](t)(g.Archive()).MarshalBinary())
	for name, secret := range secretValues(g) {
		if len(secret) < 16 || bytes.Contains(b, secret) {
			t.Errorf("record holds the %s secret", name)
		}
	}
	// A field added to the record must be thought about here. The checkpoints
	// follow from the encryption secret and are in no encoding, nor is the hash of
	// the signature key that a message was last sealed with.
	var fields []string
	for f := range reflect.TypeFor[ArchiveRecord]().Fields() {
		fields = append(fields, f.Name)
	}
	want := []string{"suite", "context", "leaves", "own", "encryptionSecret", "senderDataSecret", "authenticator", "roster", "checkpoints", "signer"}
	if !slices.Equal(fields, want) {
		t.Errorf("fields of a record: got %v, want %v", fields, want)
	}
	before := secretValues(g)
	before["encryption"], before["sender data"] = g.keys.nodes[g.tree.root()], g.secrets.senderData
	delete(before, "signature")
	w.commit(0, CommitOptions{})
	state := must[[]byte](t)(g.MarshalBinary())
	for name, secret := range before {
		if strings.HasPrefix(name, "private key") && bytes.Equal(g.private[0], secret) {
			t.Errorf("%s was not replaced", name)
		}
		if !strings.HasPrefix(name, "private key") && bytes.Contains(state, secret) {
			t.Errorf("group still holds the %s secret of the epoch before", name)
		}
	}
}

// What was used up in an epoch is gone from the group (RFC 9420 section 9.2):
// the secret of the whole tree, and the key of the message.
func TestFlaw06_UsedSecretsAreGone(t *testing.T) {
	w := newWorld(t, 2, 2)
	g := w.members[0]
	secret := bytes.Clone(g.keys.nodes[g.tree.root()])
	use := must[*keyUse](t)(g.keys.use(g.suite, g.own, applicationRatchet, 0, 0))
	if !bytes.Contains(must[[]byte](t)(g.MarshalBinary()), secret) {
		t.Fatal("the unused group does not hold its encryption secret")
	}
	must[*Message](t)(g.Protect([]byte("text"), ProtectOptions{}))
	state := must[[]byte](t)(g.MarshalBinary())
	for name, gone := range map[string][]byte{"encryption secret": secret, "key of the message": use.key, "nonce of the message": use.nonce} {
		if bytes.Contains(state, gone) {
			t.Errorf("group still holds the %s", name)
		}
	}
}

// The secrets of 2022's stored groups led to everything; a record's two lead
// to nothing: no next epoch, no Commit, no exporter.
func TestSeedFlaw12_ArchiveRecordsInsteadOfGroups(t *testing.T) {
	w := newWorld(t, 2, 2)
	g := w.members[0]
	r := must[*ArchiveRecord](t)(g.Archive())
	b := must[[]byte](t)(r.MarshalBinary())
	if _, err := UnmarshalGroup(b, g.SignatureKey(), acceptNamed); err == nil {
		t.Error("archive record can be read as a group")
	}
	// Nothing that is derived from the record's secrets by the key schedule's
	// labels is a secret of this epoch or the next.
	p := must[*PendingCommit](t)(g.Commit(CommitOptions{}))
	var targets [][]byte
	for _, x := range []*Group{g, p.Staged.next} {
		for name, secret := range secretValues(x) {
			if name != "signature" {
				targets = append(targets, secret)
			}
		}
	}
	for _, secret := range [][]byte{r.encryptionSecret, r.senderDataSecret, r.authenticator} {
		e, err := deriveEpoch(g.suite, secret)
		noError(t, err)
		for _, f := range e.fields() {
			for _, target := range targets {
				if bytes.Equal(*f.secret, target) {
					t.Errorf("record leads to a secret by label %q", f.label)
				}
			}
		}
	}
	// A record of one epoch opens nothing of the next.
	w.deliver(0, p)
	m := wire(t, must[*Message](t)(w.members[1].Protect([]byte("new"), ProtectOptions{})))
	if _, err := r.Open(m); !errors.Is(err, ErrFutureEpoch) {
		t.Errorf("record opens a message of the next epoch: %v", err)
	}
	forged := *m.private
	forged.epoch = r.Epoch()
	if _, err := r.Open(&Message{wireFormat: WirePrivateMessage, private: &forged}); err == nil {
		t.Error("record opens a message of the next epoch under its own number")
	}
}

// Trees are checked by their parent hashes, and leaf indices beyond a byte
// work everywhere.
func TestFlaw11_ParentHashAndBigGroups(t *testing.T) {
	const size = 300
	w := newWorld(t, 1, 0)
	var o CommitOptions
	var joiners []*KeyPackageSecrets
	for i := range size - 1 {
		kp, s := newKeyPackage(t, fmt.Sprintf("member %d", i+1))
		o.Add = append(o.Add, kp)
		joiners = append(joiners, s)
	}
	p := w.commit(0, o)
	m := wire(t, p.Welcome)
	for _, l := range []int{9, 254, 255, 256, size - 1} { // sorted as numbers, not as strings
		if g := w.join(m, joiners[l-1]); g.OwnLeaf() != LeafIndex(l) {
			t.Fatalf("member %d got leaf %d", l, g.OwnLeaf())
		}
	}
	last := len(w.members) - 1
	w.commit(last, CommitOptions{})
	w.commit(3, CommitOptions{Remove: []LeafIndex{20, 100, 270}})
	record := must[*ArchiveRecord](t)(w.members[0].Archive())
	for _, i := range []int{last, 3} {
		g := w.members[i]
		text := wire(t, must[*Message](t)(g.Protect([]byte("far"), ProtectOptions{})))
		for j, h := range w.members {
			if i == j {
				continue
			}
			if app := must[Received](t)(h.Process(text, testNow)).(*Application); app.Sender != g.OwnLeaf() || app.Sender < 255 {
				t.Errorf("member %d: sender %d, want %d", j, app.Sender, g.OwnLeaf())
			}
		}
		if app := must[*Application](t)(record.Open(text)); app.Sender != g.OwnLeaf() || string(app.Credential.Identity) != fmt.Sprintf("member %d", g.OwnLeaf()) {
			t.Errorf("archive: sender %d, %q", app.Sender, app.Credential.Identity)
		}
	}
	w.add(last, 2) // the joiners verify the tree, into the blank leaves
	if l := w.members[len(w.members)-2].OwnLeaf(); l != 20 {
		t.Errorf("new member got leaf %d, want the leftmost blank one, 20", l)
	}

	// A parent key that nobody's leaf vouches for is found.
	g := w.members[0]
	tree := g.tree.clone()
	root := *tree.parent(tree.root())
	var err error
	_, root.encryptionKey, err = g.suite.GenerateKeyPair()
	noError(t, err)
	tree.setParent(tree.root(), &root)
	if err := tree.verifyParentHashes(g.suite, 1); err == nil {
		t.Error("foreign key in the root was not found")
	}
	noError(t, g.tree.verifyParentHashes(g.suite, 1))
}

// KeyPackages keep their lifetime, and the identity of a leaf cannot change
// unseen.
func TestFlaw11_LifetimeAndCredentialContinuity(t *testing.T) {
	kp, _ := newKeyPackage(t, "bob")
	if kp.Lifetime() != testLifetime() {
		t.Errorf("lifetime: got %v, want %v", kp.Lifetime(), testLifetime())
	}
	late := testNow.Add(91 * 24 * time.Hour)
	if err := kp.Verify(late); err == nil {
		t.Error("expired key package was accepted")
	}
	w := newWorld(t, 2, 0)
	if _, err := w.members[0].Commit(CommitOptions{Add: []*KeyPackage{kp}, Now: late}); err == nil {
		t.Error("expired key package was added")
	}
	name := NewBasicCredential([]byte("somebody else"))
	if _, err := w.members[0].Commit(CommitOptions{NewCredential: &name}); err == nil {
		t.Error("own credential was changed against the validator")
	}
	w.refused(1, w.commitAttack(1, &attack{leaf: func(_ *Group, l *leafNode) { l.credential = name }}), "credential is not valid", nil)

	// A Commit that was accepted is not refused for its age, but it tells.
	p := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{Add: []*KeyPackage{kp}, Now: testNow}))
	r := must[Received](t)(w.members[1].Process(wire(t, p.Commit), late)).(*ReceivedCommit)
	if len(r.Expired) != 1 || r.Expired[0] != r.Added[0].Leaf {
		t.Errorf("expired: got %v", r.Expired)
	}
}

// Adding somebody who is in the group, the creator included, is refused, on
// both sides.
func TestFlaw32_MemberIsAddedOnce(t *testing.T) {
	w := newWorld(t, 2, 0)
	same := func(key SignaturePrivateKey) func(*KeyPackageOptions) {
		return func(o *KeyPackageOptions) { o.SignatureKey = key }
	}
	for i := range w.members {
		kp, _ := newKeyPackage(t, fmt.Sprintf("member %d", i), same(w.members[i].signature))
		_, err := w.members[0].Commit(CommitOptions{Add: []*KeyPackage{kp}, Now: testNow})
		if err == nil || !strings.Contains(err.Error(), "same signature key") {
			t.Errorf("adding member %d again: got %v", i, err)
		}
		w.refused(1, w.commitAttack(1, &attack{proposals: []Proposal{&Add{KeyPackage: kp}}}), "same signature key", nil)
	}
	if n := len(w.members[0].Members()); n != 2 {
		t.Errorf("%d members, want 2", n)
	}
	// Removing and adding in one Commit is how somebody is replaced.
	kp, _ := newKeyPackage(t, "member 1", same(w.members[1].signature))
	w.commit(0, CommitOptions{Add: []*KeyPackage{kp}, Remove: []LeafIndex{1}})
}

// records returns the archive records of all members.
func (w *world) records() []*ArchiveRecord {
	w.t.Helper()
	var list []*ArchiveRecord
	for _, g := range w.members {
		b := must[[]byte](w.t)(must[*ArchiveRecord](w.t)(g.Archive()).MarshalBinary())
		list = append(list, must[*ArchiveRecord](w.t)(ParseArchiveRecord(b)))
	}
	return list
}

func TestCommonAncestor(t *testing.T) {
	for a := range node(63) {
		for b := range node(63) {
			want := node(31)
			for n := range node(63) {
				if a.InSubtree(n) && b.InSubtree(n) && n.Level() < want.Level() {
					want = n
				}
			}
			if got := treemath.CommonAncestor(a, b); got != want {
				t.Fatalf("common ancestor of %d and %d: got %d, want %d", a, b, got, want)
			}
		}
	}
}
