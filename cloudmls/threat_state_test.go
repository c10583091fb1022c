package cloudmls

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// settled is a world in which Alice has a dialog and two groups with Bob and
// Carol, everybody knows of them, and something was said in each.
type settled struct {
	*hostile
	alice, bob, carol *device
	dialog            ConversationID
	groups            [2]ConversationID
	said              []byte        // by Bob, in the dialog
	disk              *copyingStore // of a device of Alice's that has signed in and read nothing yet
}

func newSettled(t *testing.T) *settled {
	t.Helper()
	h := newHostile(t)
	s := &settled{hostile: h, alice: h.user("alice"), bob: h.user("bob"), carol: h.user("carol")}
	s.dialog = s.alice.ensureDialog(s.bob)
	for i := range s.groups {
		s.groups[i] = newID(t)
		s.alice.ensureGroup(s.groups[i], s.bob, s.carol)
		s.alice.encrypt(s.groups[i], "hello all")
	}
	s.alice.encrypt(s.dialog, "hello Bob")
	s.bob.cleanSync()
	s.carol.cleanSync()
	s.said = s.bob.encrypt(s.dialog, "hello Alice")
	s.disk = newCopyingStore()
	c, err := Open(t.Context(), s.alice.username, password, h.optionsAs("unused", s.disk))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s
}

// unread starts a device of Alice's that has signed in, honestly, and read
// nothing of the state yet; it costs no derivation of the password.
func (s *settled) unread() *device {
	s.t.Helper()
	d := &device{w: s.world, t: s.t, username: s.alice.username, self: s.alice.self, store: s.disk.copy(s.t)}
	c, err := Resume(s.t.Context(), s.optionsAs("unread", d.store))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	d.Client = c
	return d
}

// useless checks that a new device, which the server has shown something false,
// neither opens nor seals anything, and takes nothing for absent.
func (s *settled) useless(what string, bySignIn bool) {
	s.t.Helper()
	var d *device
	if bySignIn {
		var err error
		if d, err = s.signIn(s.alice, "new"); err != nil {
			if errors.Is(err, state.ErrNotFound) {
				s.t.Errorf("%s: %v", what, err)
			}
			return // noticed at once
		}
	} else {
		d = s.unread()
	}
	reads, err := d.Decrypt(s.t.Context(), d.self, s.said)
	if reads != nil && !reads.Verified {
		s.t.Errorf("%s: opened with %v", what, reads.Warnings)
	}
	var never *NeverError
	if errors.As(err, &never) {
		s.t.Errorf("%s: a message of ours is said to open never: %v", what, err)
	}
	failed := 0
	for _, id := range append(s.groups[:], s.dialog) {
		if _, err := d.Conversation(s.t.Context(), d.self, id); errors.Is(err, ErrNoConversation) {
			s.t.Errorf("%s: a conversation is said not to exist", what)
		}
		b, err := d.Encrypt(s.t.Context(), d.self, id, []byte("the secret text"), nil)
		if errors.Is(err, ErrNoConversation) || (err == nil) != (b != nil) {
			s.t.Errorf("%s: encrypt: %d octets, %v", what, len(b), err)
		}
		if err != nil {
			failed++
		}
	}
	if failed > 0 {
		return
	}
	for _, id := range s.groups { // live groups are for handshakes alone
		if err := d.Remove(s.t.Context(), d.self, id, accounts(s.carol)); err != nil {
			failed++
		}
	}
	if failed == 0 {
		s.t.Errorf("%s: nothing was noticed", what)
	}
}

// TestThreat15_SwappedBlobs: the octets of an object are served in the place of
// another one, of the same user or of another, of the same type or of another,
// with and without an index that says so.
func TestThreat15_SwappedBlobs(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	alice, bob := s.evil.ObjectsOf(s.alice.username), s.evil.ObjectsOf(s.bob.username)
	two := func(of evil.State, t state.Type) (a, b keyapi.Object) {
		ids := evil.Changed(evil.State{}, of, byte(t))
		return of[ids[0]], of[ids[1]]
	}
	conv1, conv2 := two(alice, state.TypeConversation)
	live1, live2 := two(alice, state.TypeGroup)
	send1, send2 := two(alice, state.TypeSender)
	one := func(of evil.State, t state.Type) keyapi.Object { return of[firstOfType(s.hostile, of, t)] }
	for name, pair := range map[string][2]keyapi.Object{
		"two conversations":             {conv1, conv2},
		"two groups":                    {live1, live2},
		"two sender objects":            {send1, send2},
		"conversation and contacts":     {conv1, one(alice, state.TypeContacts)},
		"group and archive record":      {live1, one(alice, state.TypeEpoch)},
		"another user's contacts":       {one(alice, state.TypeContacts), one(bob, state.TypeContacts)},
		"another user's identity":       {one(alice, state.TypeIdentity), one(bob, state.TypeIdentity)},
		"another user's head":           {one(alice, state.TypeHead), one(bob, state.TypeHead)},
		"another user's wraps":          {one(alice, state.TypeWrap), one(bob, state.TypeWrap)},
		"keyring and profile":           {one(alice, state.TypeKeyring), one(alice, state.TypeProfile)},
		"another user's sender objects": {send1, one(bob, state.TypeSender)},
	} {
		a, b := pair[0], pair[1]
		atSignIn := state.Type(a.ID[0]) <= state.TypeProfile
		lie := s.evil.Objects(nil, func(l *keyapi.ObjectList) {
			for i := range l.Objects {
				switch o := &l.Objects[i]; o.ID {
				case a.ID:
					o.Data = b.Data
				case b.ID:
					o.Data = a.Data
				}
			}
		})
		s.useless(name+", in answers", atSignIn)
		if lie.Hits() == 0 {
			t.Errorf("%s: nothing was asked for", name)
		}
		lie.Stop()
		swapped := s.evil.ObjectsOf(s.alice.username)
		before := s.evil.ObjectsOf(s.alice.username)
		swapped[a.ID] = keyapi.Object{ID: a.ID, Counter: swapped[a.ID].Counter, Data: b.Data}
		if _, ok := swapped[b.ID]; ok && a.ID != b.ID { // those of every user have one id
			swapped[b.ID] = keyapi.Object{ID: b.ID, Counter: swapped[b.ID].Counter, Data: a.Data}
		}
		s.evil.SetObjects(s.alice.username, swapped)
		s.useless(name+", stored", atSignIn)
		s.evil.SetObjects(s.alice.username, before)
	}
	s.unread().reads(s.said, "hello Alice", s.bob)
}

// TestThreat16_OlderBlobServed: an earlier state of everything, or of one object,
// raises an alarm on a device that has seen a later one, while it runs and after
// a restart, and no ciphertext leaves it, though generations are reserved.
func TestThreat16_OlderBlobServed(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"while it runs": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettled(t)
			old := s.evil.ObjectsOf(s.alice.username)
			dave := s.user("dave")
			s.alice.ensureGroup(s.groups[0], dave)
			s.alice.encrypt(s.groups[0], "to four") // of a block that lasts
			now := s.evil.ObjectsOf(s.alice.username)
			s.evil.SetObjects(s.alice.username, old)
			if restart {
				s.restart(s.alice, "alice")
			}
			var b []byte
			var err error
			if restart {
				b, err = s.alice.Encrypt(t.Context(), s.alice.self, s.groups[0], []byte("to whom?"), nil)
			} else { // looking is enough
				_, err = s.alice.Sync(t.Context(), s.alice.self)
			}
			if b != nil {
				t.Error("a ciphertext was released")
			}
			s.alarmed(s.alice, s.groups[0], err)
			s.evil.SetObjects(s.alice.username, now) // the server repents; the device asks its user first
			_, err = s.alice.Sync(t.Context(), s.alice.self)
			s.alarmed(s.alice, s.groups[0], err)
		})
	}
	t.Run("one object, to a device without a copy", func(t *testing.T) {
		t.Parallel()
		s := newSettled(t)
		old := s.evil.ObjectsOf(s.alice.username)
		dave := s.user("dave")
		s.alice.ensureGroup(s.groups[0], dave)
		for _, object := range []state.Type{state.TypeConversation, state.TypeGroup, state.TypeContacts, state.TypeKeyPackages} {
			for _, id := range evil.Changed(old, s.evil.ObjectsOf(s.alice.username), byte(object)) {
				before, ok := old[id]
				if !ok {
					continue
				}
				for _, renumber := range []bool{false, true} {
					lie := s.evil.Objects(nil, func(l *keyapi.ObjectList) {
						for i := range l.Objects {
							if o := &l.Objects[i]; o.ID == id {
								o.Data = before.Data
								if !renumber {
									o.Counter = before.Counter
								}
							}
						}
					})
					d := s.unread()
					var err error
					switch object {
					case state.TypeGroup: // is for handshakes alone
						err = d.Remove(t.Context(), d.self, s.groups[0], accounts(s.carol))
					case state.TypeKeyPackages: // are for a Sync that has a Welcome
						s.bob.ensureGroup(newID(t), s.alice)
						_, err = d.Sync(t.Context(), d.self)
					default:
						_, err = d.Encrypt(t.Context(), d.self, s.groups[0], []byte("text"), nil)
					}
					s.alarmed(d, s.groups[0], err)
					if lie.Hits() == 0 {
						t.Errorf("type %d was not asked for", object)
					}
					lie.Stop()
				}
			}
		}
	})
}

// TestThreat19_HeadOmitsOrAdds: the head lists what there is; an index that lacks
// or has more of any type is noticed by a device that has no memory of its own,
// and by one that has, where something has changed: of the rest it asks nothing.
func TestThreat19_HeadOmitsOrAdds(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	s.bob.ensureGroup(newID(t), s.alice) // whoever joins has an inbox object
	s.alice.cleanSync()
	all := s.evil.ObjectsOf(s.alice.username)
	known := s.second(s.alice, "known")
	known.cleanSync()
	types := []state.Type{
		state.TypeWrap, state.TypeHead, state.TypeKeyring, state.TypeProfile, state.TypeIdentity, state.TypeKeyPackages,
		state.TypeInbox, state.TypeConversation, state.TypeGroup, state.TypeSender, state.TypeEpoch, state.TypeContacts,
	}
	check := func(what string, change func(x *keyapi.ObjectIndex)) {
		t.Helper()
		lie := s.evil.Index(nil, change)
		defer lie.Stop()
		_, err := s.signIn(s.alice, "fresh")
		var alarm *RollbackError
		if err == nil {
			t.Errorf("%s: a new device noticed nothing", what)
		} else if !errors.As(err, &alarm) && !errors.Is(err, state.ErrNoState) {
			t.Errorf("%s: a new device: %v", what, err)
		}
		if lie.Hits() == 0 {
			t.Errorf("%s: no index was asked for", what)
		}
	}
	for _, object := range types {
		id := firstOfType(s.hostile, all, object)
		check(fmt.Sprint("omitted: type ", object), func(x *keyapi.ObjectIndex) {
			x.Objects = slices.DeleteFunc(x.Objects, func(v keyapi.ObjectVersion) bool { return v.ID == id })
		})
		more := id
		more[31] ^= 1
		if object == state.TypeWrap || object == state.TypeHead || object == state.TypeKeyring || object == state.TypeProfile {
			continue // of these there is one
		}
		check(fmt.Sprint("added: type ", object), func(x *keyapi.ObjectIndex) {
			x.Objects = append(x.Objects, keyapi.ObjectVersion{ID: more, Counter: 1, Hash: make([]byte, 32), Size: 256})
			slices.SortFunc(x.Objects, func(a, b keyapi.ObjectVersion) int { return slices.Compare(a.ID[:], b.ID[:]) })
		})
	}
	s.bob.ensureGroup(s.groups[0], s.user("dave")) // so that there is something new to look at
	s.alice.cleanSync()
	id := evil.Changed(all, s.evil.ObjectsOf(s.alice.username), byte(state.TypeConversation))[0]
	s.evil.Index(evil.From(nil, "known"), func(x *keyapi.ObjectIndex) {
		x.Objects = slices.DeleteFunc(x.Objects, func(v keyapi.ObjectVersion) bool { return v.ID == id })
	})
	_, err := known.Sync(t.Context(), known.self)
	s.alarmed(known, s.groups[0], err)
}

// TestThreat20_MissingGroupNeverMeansPlaintext: the server denies, in every way
// that it can, that there is a group, a state, or the other person's account.
// Nothing of that is an answer that an application could take for "write in
// clear", and the contact stays pinned.
func TestThreat20_MissingGroupNeverMeansPlaintext(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	fresh := s.unread()
	const text = "the text that stays secret"
	refuses := func(what string, d *device) {
		t.Helper()
		b, err := d.Encrypt(t.Context(), d.self, s.dialog, []byte(text), nil)
		if errors.Is(err, ErrNoConversation) || errors.Is(err, ErrNoAccount) || errors.Is(err, ErrNotMember) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil && evil.Find(b, []byte(text)) != "" || err != nil && b != nil {
			t.Errorf("%s: %q, %v", what, b, err)
		}
		if _, pinned, err := d.Pinned(t.Context(), d.self, s.bob.self); err == nil && !pinned {
			t.Errorf("%s: Bob was never seen, says the device", what)
		}
	}
	lies := map[string]func(){
		"all objects are missing": func() {
			s.evil.Objects(nil, func(l *keyapi.ObjectList) {
				for _, o := range l.Objects {
					l.Missing = append(l.Missing, o.ID)
				}
				l.Objects = []keyapi.Object{}
			})
		},
		"there are no objects": func() { s.evil.Index(nil, func(x *keyapi.ObjectIndex) { x.Objects = []keyapi.ObjectVersion{} }) },
		"there are no accounts": func() {
			s.evil.DenyAccount(s.bob.self)
			s.evil.Always(evil.To("GET", "/v1/accounts"), evil.Say(200, keyapi.AccountList{Accounts: []keyapi.AccountInfo{}}))
			s.evil.Always(evil.To("POST", "/v1/keypackages"), evil.Refuse(404, keyapi.CodeNoAccount))
		},
		"404 for every object": func() { s.evil.Always(evil.ToObjects, evil.Refuse(404, keyapi.CodeNotFound)) },
		"404 for everything":   func() { s.evil.Always(evil.Any, evil.Refuse(404, keyapi.CodeNotFound)) },
		"no account at all":    func() { s.evil.Always(evil.Any, evil.Refuse(404, keyapi.CodeNoAccount)) },
		"forbidden":            func() { s.evil.Always(evil.Any, evil.Refuse(403, keyapi.CodeForbidden)) },
	}
	for fault, act := range evil.Faults() {
		lies[fault] = func() { s.evil.Always(evil.Any, act) }
	}
	for name, lie := range lies {
		lie()
		refuses(name+", known device", s.alice)
		refuses(name+", new device", fresh)
		if r, err := s.alice.Reach(t.Context(), s.alice.self, s.bob.self); err == nil && !r.Pinned {
			t.Errorf("%s: Bob can be written to in clear, says Reach: %+v", name, r)
		}
		before := len(s.submitted())
		if c, err := fresh.Ensure(t.Context(), fresh.self, Conversation{Kind: KindDialog, Members: accounts(s.bob)}); err == nil && c.Epoch != 1 {
			t.Errorf("%s: a dialog anew: %+v", name, c)
		}
		if n := len(s.submitted()) - before; n != 0 {
			t.Errorf("%s: %d groups were made in place of what is missing", name, n)
		}
		s.evil.StopAll()
		if s.alice.Client.store.Err() != nil { // it noticed for good; go on with others
			s.alice = s.unread()
		}
		if fresh.Client.store.Err() != nil {
			fresh = s.unread()
		}
	}
	s.bob.reads(s.alice.encrypt(s.dialog, text), text, s.alice)
}

// TestThreat27_OneErrorForEveryBadEnvelope: whatever is wrong with a sealed
// object, opening it says the same, so that a server learns nothing from what
// becomes of it. The parser's fuzz target is envelope.FuzzOpen.
func TestThreat27_OneErrorForEveryBadEnvelope(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	where := envelope.Context{Origin: "https://keys.test", Type: 8, Object: [32]byte{1}}
	counter := uint64(7)
	good, err := envelope.Seal(key, where, envelope.Header{KeyVersion: 1, Counter: counter}, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	expect := envelope.Expect{Counter: &counter}
	if _, b, err := envelope.Open(key, where, expect, good); err != nil || string(b) != "content" {
		t.Fatalf("the good one: %q, %v", b, err)
	}
	flip := func(at int) []byte { b := slices.Clone(good); b[at] ^= 1; return b }
	for name, b := range map[string][]byte{
		"nothing": nil, "short": good[:20], "cut": good[:len(good)-1], "header only": good[:51], "longer": append(slices.Clone(good), 0),
		"padded twice": append(slices.Clone(good), make([]byte, 256)...),
		"magic":        flip(0), "version": flip(4), "key version": flip(8), "counter": flip(16), "previous": flip(20), "slot": flip(50),
		"salt": flip(51), "commitment": flip(83), "ciphertext": flip(120), "tag": flip(len(good) - 1), "zeros": make([]byte, len(good)),
	} {
		if _, pt, err := envelope.Open(key, where, expect, b); err != envelope.ErrOpen || pt != nil {
			t.Errorf("%s: %q, %v", name, pt, err)
		}
	}
	other := uint64(8)
	if _, _, err := envelope.Open(key, where, envelope.Expect{Counter: &other}, good); err != envelope.ErrOpen {
		t.Errorf("another counter: %v", err)
	}
	if _, _, err := envelope.Open(append(make([]byte, 31), 1), where, expect, good); err != envelope.ErrOpen {
		t.Errorf("another key: %v", err)
	}
}
