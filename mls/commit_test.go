package mls

import (
	"bytes"
	"errors"
	"testing"
)

// Making a Commit changes nothing; the next state can be stored before the
// Commit is published, and used after a restart.
func TestCommitIsStaged(t *testing.T) {
	w := newWorld(t, 3, 3)
	g := w.members[0]
	before := must[[]byte](t)(g.MarshalBinary())
	key := newKey(t)
	kp, joiner := newKeyPackage(t, "dora")
	name := NewBasicCredential([]byte("member 0"))
	p := must[*PendingCommit](t)(g.Commit(CommitOptions{
		Add: []*KeyPackage{kp}, Now: testNow, NewSignatureKey: key, NewCredential: &name,
		AuthenticatedData: []byte("fork hash"), Padding: func(n int) int { return (n + 255) &^ 255 },
	}))
	if !bytes.Equal(before, must[[]byte](t)(g.MarshalBinary())) {
		t.Fatal("commit changed the group")
	}
	if string(p.Commit.AuthenticatedData()) != "fork hash" {
		t.Error("authenticated data is lost")
	}
	if refs := p.Welcome.WelcomeRefs(); len(refs) != 1 || refs[0] != kp.Ref() {
		t.Errorf("welcome is for %v", refs)
	}
	state := must[[]byte](t)(p.Staged.Group().MarshalBinary())
	record := must[*ArchiveRecord](t)(p.Staged.Group().Archive())

	// Restart: only the stored bytes and the keys are left.
	restarted := must[*Group](t)(UnmarshalGroup(state, key, acceptNamed))
	if _, err := UnmarshalGroup(state, newKey(t), acceptNamed); err == nil {
		t.Error("group was read with a wrong signature key")
	}
	if _, err := UnmarshalGroup(state, key, nil); err == nil {
		t.Error("group was read without a validator")
	}
	w.deliver(0, p)
	w.join(wire(t, p.Welcome), joiner)
	w.members[0] = restarted
	w.agree()
	if !bytes.Equal(record.EpochAuthenticator(), restarted.EpochAuthenticator()) {
		t.Error("record is of another epoch")
	}
	m := wire(t, must[*Message](t)(restarted.Protect([]byte("back"), ProtectOptions{})))
	for _, h := range w.members[1:] {
		must[Received](t)(h.Process(m, testNow))
	}
	must[*Application](t)(record.Open(m))
	w.commit(0, CommitOptions{})
	w.commit(3, CommitOptions{})
}

// A Commit by the own leaf, made here or on another device, is recognised, and
// the state that its maker stored takes its place.
func TestOwnCommit(t *testing.T) {
	w := newWorld(t, 2, 2)
	first := w.members[0]
	second := stored(t, first) // another device, the same leaf
	p := must[*PendingCommit](t)(first.Commit(CommitOptions{Generation: generation(32), ReuseGuard: &[4]byte{1}}))
	before := must[[]byte](t)(second.MarshalBinary())
	for _, g := range []*Group{first, second} {
		if _, err := g.Process(wire(t, p.Commit), testNow); !errors.Is(err, ErrOwnCommit) {
			t.Errorf("own commit: got %v, want %v", err, ErrOwnCommit)
		}
	}
	if !bytes.Equal(before, must[[]byte](t)(second.MarshalBinary())) {
		t.Error("group was changed by its own commit")
	}
	w.deliver(0, p)
	w.members = append(w.members, stored(t, p.Staged.Group()))
	w.agree()
}

// A Commit that lost the race does not fit any more.
func TestMergeChecksTheEpoch(t *testing.T) {
	w := newWorld(t, 3, 3)
	lost := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{}))
	won := must[*PendingCommit](t)(w.members[1].Commit(CommitOptions{Generation: generation(5)}))
	w.deliver(1, won)
	state := must[[]byte](t)(w.members[0].MarshalBinary())
	if err := w.members[0].Merge(lost.Staged); !errors.Is(err, ErrStaleCommit) {
		t.Errorf("got %v, want %v", err, ErrStaleCommit)
	}
	if !bytes.Equal(state, must[[]byte](t)(w.members[0].MarshalBinary())) {
		t.Error("failed merge changed the group")
	}
	if err := w.members[0].Merge(won.Staged); !errors.Is(err, ErrStaleCommit) {
		t.Errorf("merging twice: got %v, want %v", err, ErrStaleCommit)
	}
	if _, err := w.members[0].Process(wire(t, lost.Commit), testNow); !errors.Is(err, ErrStaleEpoch) {
		t.Errorf("lost commit: got %v, want %v", err, ErrStaleEpoch)
	}
}

func TestRemoved(t *testing.T) {
	w := newWorld(t, 3, 3)
	gone := w.members[2]
	p := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{Remove: []LeafIndex{2}}))
	r := must[Received](t)(gone.Process(wire(t, p.Commit), testNow)).(*ReceivedCommit)
	if !r.SelfRemoved || r.Staged.Group() != nil || len(r.Removed) != 1 || r.Removed[0].Leaf != 2 {
		t.Errorf("received %+v", r)
	}
	w.deliver(0, p)
	if !gone.Left() {
		t.Error("removed member did not leave")
	}
	if _, err := gone.Protect(nil, ProtectOptions{}); !errors.Is(err, ErrNotMember) {
		t.Errorf("protect: got %v", err)
	}
	if _, err := gone.Commit(CommitOptions{}); !errors.Is(err, ErrNotMember) {
		t.Errorf("commit: got %v", err)
	}
	if _, err := gone.Export("x", nil, 32); !errors.Is(err, ErrNotMember) {
		t.Errorf("export: got %v", err)
	}
	if _, err := gone.MarshalBinary(); !errors.Is(err, ErrNotMember) {
		t.Errorf("marshal: got %v", err)
	}
	if _, err := gone.Archive(); !errors.Is(err, ErrNotMember) {
		t.Errorf("archive: got %v", err)
	}
}

func TestReInitEndsTheGroup(t *testing.T) {
	w := newWorld(t, 2, 2)
	w.commit(0, CommitOptions{Proposals: []Proposal{&ReInit{GroupID: "next", Version: MLS10, CipherSuite: testSuite}}})
	for _, g := range w.members {
		g := stored(t, g)
		if r, ok := g.Reinitialized(); !ok || r.GroupID != "next" {
			t.Errorf("reinit: got %v", r)
		}
		if _, err := g.Protect(nil, ProtectOptions{}); !errors.Is(err, ErrReinitialized) {
			t.Errorf("protect: got %v", err)
		}
	}
}

func TestPreSharedKeys(t *testing.T) {
	w := newWorld(t, 3, 3)
	old := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: w.members[0].ID(), Epoch: w.members[0].Epoch(), Nonce: randomBytes(32)}
	outside := PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: randomBytes(32)}
	for _, g := range w.members {
		g.SetPSKs(func(id PreSharedKeyID) ([]byte, error) {
			if string(id.ID) == "shared" {
				return []byte("secret"), nil
			}
			return nil, nil
		})
	}
	kp, joiner := newKeyPackage(t, "dora")
	p := w.commit(0, CommitOptions{Now: testNow, Add: []*KeyPackage{kp}, Proposals: []Proposal{&PreSharedKey{ID: outside}}})
	if _, err := JoinWelcome(p.Welcome, JoinOptions{Secrets: joiner, Validate: acceptNamed}); !errors.Is(err, ErrMissingPSK) {
		t.Errorf("join without the key: got %v", err)
	}
	g := must[*Group](t)(JoinWelcome(p.Welcome, JoinOptions{Secrets: joiner, Validate: acceptNamed, PSKs: w.members[0].psks}))
	w.members = append(w.members, g)
	w.agree()
	old.Epoch = g.Epoch()
	w.commit(1, CommitOptions{Proposals: []Proposal{&PreSharedKey{ID: old}}})
}

func TestGroupContextExtensions(t *testing.T) {
	const mine ExtensionType = 0xf001
	w := newWorld(t, 1, 0, func(o *GroupOptions) {
		o.Extensions = []Extension{{Type: mine, Data: []byte("conversation")}}
	})
	kp, _ := newKeyPackage(t, "plain")
	if _, err := w.members[0].Commit(CommitOptions{Add: []*KeyPackage{kp}, Now: testNow}); err == nil {
		t.Error("member that does not support the group's extension was added")
	}
	kp, joiner := newKeyPackage(t, "able", func(o *KeyPackageOptions) {
		c := DefaultCapabilities(testSuite, mine)
		o.Capabilities = &c
	})
	p := w.commit(0, CommitOptions{Add: []*KeyPackage{kp}})
	w.join(p.Welcome, joiner)
	for _, g := range w.members {
		if data, ok := g.Extension(mine); !ok || string(data) != "conversation" {
			t.Errorf("extension: got %q", data)
		}
	}
	w.commit(1, CommitOptions{Proposals: []Proposal{&GroupContextExtensions{Extensions: []Extension{{Type: mine, Data: []byte("changed")}}}}})
	for _, g := range w.members {
		if data, _ := g.Extension(mine); string(data) != "changed" {
			t.Errorf("extension: got %q", data)
		}
	}
}

func TestExport(t *testing.T) {
	w := newWorld(t, 2, 1)
	a := must[[]byte](t)(w.members[0].Export("label", []byte("context"), 48))
	b := must[[]byte](t)(w.members[1].Export("label", []byte("context"), 48))
	if len(a) != 48 || !bytes.Equal(a, b) {
		t.Errorf("exported %x and %x", a, b)
	}
	for _, c := range [][]byte{
		must[[]byte](t)(w.members[0].Export("other", []byte("context"), 48)),
		must[[]byte](t)(w.members[0].Export("label", []byte("other"), 48)),
	} {
		if bytes.Equal(a, c) {
			t.Error("different exports are equal")
		}
	}
	for _, n := range []int{-1, 1 << 20} {
		if _, err := w.members[0].Export("label", nil, n); err == nil {
			t.Errorf("export of %d bytes worked", n)
		}
	}
}

// A Commit is encoded once: what is signed, hashed and sent are the octets
// that its maker encoded, and those that a receiver read.
func TestCommitKeepsItsOctets(t *testing.T) {
	w := newWorld(t, 3, 3)
	kp, _ := newKeyPackage(t, "new")
	p := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{Add: []*KeyPackage{kp}, Now: testNow, Public: true}))
	made := p.Commit.public.framed.content.commit
	wantEqual(t, "octets of the maker", made.octets, encode(byFields(made)))
	b := must[[]byte](t)(p.Commit.MarshalBinary())
	read := must[*Message](t)(ParseMessage(b)).public.framed.content.commit
	wantEqual(t, "octets of the receiver", read.octets, made.octets)
	other := *read
	other.proposals, other.path = nil, nil
	wantEqual(t, "encoding", encode(&other), made.octets)
	if cap(read.octets) != len(read.octets) {
		t.Error("octets reach beyond the commit")
	}
}
