package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// faults are the ways in which a key server fails to answer. Each tells how the
// answer to a request looks; the request itself does not arrive.
var faults = map[string]func(e *exchange){
	"down":         func(e *exchange) { e.status = 0 },
	"404 page":     func(e *exchange) { e.status, e.answered = 404, []byte("<html>not here</html>") },
	"500 page":     func(e *exchange) { e.status, e.answered = 500, []byte("oops") },
	"empty 200":    func(e *exchange) { e.status, e.answered = 200, nil },
	"garbage":      func(e *exchange) { e.status, e.answered = 200, []byte("{]\x00") },
	"another JSON": func(e *exchange) { e.status, e.answered = 200, []byte(`{"hello":"world"}`) },
}

// fail makes requests that match fail, all of them.
func (w *wire) fail(match func(e *exchange) bool, fault func(e *exchange)) {
	w.set(func(e *exchange) bool {
		if !match(e) {
			return false
		}
		fault(e)
		return true
	}, nil)
}

func anything(*exchange) bool { return true }

// TestFlaw09_FailClosed: in 2022 any error of the server made encrypt return
// the plaintext.
func TestFlaw09_FailClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	const secret = "the secret of the fault tests"
	for name, fault := range faults {
		fresh := alice.sibling() // nothing reserved yet
		w.wire.fail(anything, fault)
		b, err := fresh.Encrypt(t.Context(), fresh.self, id, []byte(secret), nil)
		if err == nil || b != nil {
			t.Errorf("%s: nothing reserved: got %q, %v", name, b, err)
		}
		if b, err := fresh.Encrypt(t.Context(), fresh.self, newID(t), []byte(secret), nil); err == nil || b != nil {
			t.Errorf("%s: no conversation: got %q, %v", name, b, err)
		}
		if s, err := fresh.Ensure(t.Context(), fresh.self, Conversation{ID: newID(t), Kind: KindGroup, Members: accounts(bob)}); err == nil {
			t.Errorf("%s: created %+v", name, s)
		}
		r, err := fresh.Reach(t.Context(), fresh.self, account("stranger"))
		if err == nil {
			t.Errorf("%s: reach %+v; want an error, never \"no account\"", name, r)
		}
		w.wire.set(nil, nil)
		bob.reads(fresh.encrypt(id, secret), secret, alice)
	}
}

// TestFlaw09_UnreadableIsNotAbsent: a record that cannot be read now is neither a
// conversation that does not exist nor a contact that was never seen: both would
// be reasons to write in clear.
func TestFlaw09_UnreadableIsNotAbsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	for name, fault := range faults {
		fresh := alice.sibling() // nothing in the local cache yet
		if _, err := fresh.Accounts(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wire.fail(anything, fault)
		if s, err := fresh.Conversation(t.Context(), fresh.self, id); err == nil || errors.Is(err, ErrNoConversation) {
			t.Errorf("%s: conversation %+v, %v", name, s, err)
		}
		if _, pinned, err := fresh.Pinned(t.Context(), fresh.self, bob.self); err == nil {
			t.Errorf("%s: pinned %v without an error", name, pinned)
		}
		if s, err := fresh.FindGroup(t.Context(), fresh.self, accounts(bob)); err == nil || errors.Is(err, ErrNoConversation) {
			t.Errorf("%s: group %+v, %v", name, s, err)
		}
		w.wire.set(nil, nil)
	}
}

// TestSeedFlaw02_NoStateIsNeverPlaintext: a server that denies having the state
// downgraded everybody in 2022.
func TestSeedFlaw02_NoStateIsNeverPlaintext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	fresh := alice.sibling()
	notFound := encodeJSON(t, keyapi.Problem{Status: 404, Code: keyapi.CodeNotFound})
	w.wire.set(nil, func(e *exchange) {
		switch {
		case e.is("POST", "/v1/objects"):
			ids := decodeJSON[keyapi.ObjectsRequest](t, e.sent).IDs
			e.status, e.answered = 200, encodeJSON(t, keyapi.ObjectList{Objects: []keyapi.Object{}, Missing: ids})
		case e.is("GET", "/v1/objects/"):
			var id keyapi.ObjectID
			if err := id.UnmarshalText([]byte(path.Base(e.request.URL.Path))); err != nil {
				t.Error(err)
			}
			e.status, e.answered = 200, encodeJSON(t, keyapi.ObjectList{Objects: []keyapi.Object{}, Missing: []keyapi.ObjectID{id}})
		case e.is("GET", "/v1/objects"):
			e.status, e.answered = 200, []byte(`{"objects":[]}`)
		case e.is("GET", "/v1/"):
			e.status, e.answered = 404, notFound
		}
	})
	for name, d := range map[string]*device{"known device": alice, "new device": fresh} {
		b, err := d.Encrypt(t.Context(), d.self, id, []byte("text"), nil)
		if err == nil || b != nil || errors.Is(err, ErrNoConversation) {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
	}
	if c, err := Open(t.Context(), alice.username, password, w.options(NewMemoryStore())); err == nil {
		if b, err := c.Encrypt(t.Context(), alice.self, id, []byte("text"), nil); err == nil {
			t.Errorf("a device that never saw the state: %q", b)
		}
		c.Close()
	}
}

// TestEncryptOffline: reserved generations last for a while without the key
// server, and run out into an error.
func TestEncryptOffline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	alice.encrypt(id, "reserves a block")
	w.wire.fail(anything, faults["down"])
	alice.crash()
	var sent [][]byte
	const left = blockSize - stride // a crash wastes what was used up on the disk
	for n := range blockSize {
		b, err := alice.Encrypt(t.Context(), alice.self, id, fmt.Appendf(nil, "%d", n), nil)
		if err != nil {
			if n != left {
				t.Fatalf("message %d: %v", n, err)
			}
			break
		}
		sent = append(sent, b)
	}
	if len(sent) != left {
		t.Errorf("%d messages were encrypted offline, want %d", len(sent), left)
	}
	w.wire.set(nil, nil)
	seen := map[uint32]bool{}
	for n, b := range append(sent, alice.encrypt(id, fmt.Sprint(len(sent)))) {
		p := bob.reads(b, fmt.Sprint(n), alice)
		if seen[p.Generation] {
			t.Fatalf("generation %d was used twice", p.Generation)
		}
		seen[p.Generation] = true
	}
}

// TestFaultsOnEveryCall lets each request of each operation fail, in each way,
// before and after the server carried it out. The operation says so or
// succeeds; then it is repeated, and everything is as if nothing had happened.
func TestFaultsOnEveryCall(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("many combinations")
	}
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	last := alice.encrypt(id, "before the faults")
	operations := map[string]func(d *device) error{
		"create": func(d *device) error {
			_, err := d.Ensure(t.Context(), d.self, Conversation{ID: newID(t), Kind: KindGroup, Members: accounts(bob)})
			return err
		},
		"add": func(d *device) error {
			_, err := d.Ensure(t.Context(), d.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(carol)})
			return err
		},
		"remove":  func(d *device) error { return d.Remove(t.Context(), d.self, id, accounts(carol)) },
		"account": func(d *device) error { return d.AddAccount(t.Context(), account("alice-too")) },
		"sync":    func(d *device) error { _, err := d.Sync(t.Context(), d.self); return err },
		"encrypt": func(d *device) error {
			_, err := d.Encrypt(t.Context(), d.self, id, []byte("text"), nil)
			return err
		},
		"decrypt": func(d *device) error { _, err := d.Decrypt(t.Context(), d.self, last); return err },
	}
	order := []string{"account", "create", "add", "sync", "encrypt", "decrypt", "remove"}
	for _, name := range order {
		for _, lost := range []bool{false, true} {
			d := alice.sibling()
			for fault, answer := range faults {
				w.oneFault(d, fmt.Sprintf("%s, %s, carried out %v", name, fault, lost), operations[name], answer, lost)
			}
			if err := d.SignOut(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range []*device{alice, bob} {
			d.cleanSync()
		}
		text := "after " + name
		last = alice.encrypt(id, text)
		bob.reads(last, text, alice)
		alice.reads(bob.encrypt(id, text), text, bob)
	}
}

// oneFault makes the n-th request of an operation fail, for every n, always
// followed by a repetition without fault.
func (w *world) oneFault(d *device, what string, op func(*device) error, answer func(*exchange), lost bool) {
	w.t.Helper()
	for n := range 4 {
		seen := 0
		hit := false
		count := func(e *exchange) bool {
			if hit || strings.HasSuffix(e.request.URL.Path, "/refresh") {
				return false
			}
			seen++
			hit = seen > n
			return hit
		}
		if lost {
			w.wire.set(nil, func(e *exchange) {
				if count(e) {
					answer(e)
				}
			})
		} else {
			w.wire.set(func(e *exchange) bool {
				if !count(e) {
					return false
				}
				answer(e)
				return true
			}, nil)
		}
		first := op(d)
		w.wire.set(nil, nil)
		if err := op(d); err != nil {
			w.t.Fatalf("%s, request %d: repeated: %v (at first: %v)", what, n, err, first)
		}
	}
}

// TestFlaw28_StateAndCommitAreOneStep: 2022 stored its state and then sent the
// Commit; when that failed it was ahead of everybody for ever.
func TestFlaw28_StateAndCommitAreOneStep(t *testing.T) {
	t.Parallel()
	for name, arrives := range map[string]bool{"refused": false, "accepted, the answer lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
			id := newID(t)
			alice.ensureGroup(id, bob)
			bob.cleanSync()
			commit := func(e *exchange) bool {
				return e.is("POST", "/v1/tx") && isCommit(t, e, alice)
			}
			if arrives {
				done := false
				w.wire.set(func(e *exchange) bool { // repetitions do not get through
					if done {
						e.status = 0
					}
					return done
				}, func(e *exchange) {
					if commit(e) {
						done, e.status = true, 0
					}
				})
			} else {
				w.wire.fail(commit, faults["500 page"])
			}
			_, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(carol)})
			if err == nil {
				t.Fatal("the fault had no effect")
			}
			w.wire.set(nil, nil)
			alice.crash()
			s := alice.ensureGroup(id, bob, carol)
			if s.Epoch != 2 || len(s.Members) != 3 {
				t.Fatalf("alice: %+v", s)
			}
			text := alice.encrypt(id, "no fork")
			bob.reads(text, "no fork", alice)
			carol.reads(text, "no fork", alice)
			alice.reads(carol.encrypt(id, "nor here"), "nor here", carol)
		})
	}
}

// TestCrashAfterTheTransaction: the Commit is accepted and the device dies
// before it knows.
func TestCrashAfterTheTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob)
	early := alice.encrypt(id, "early")
	w.wire.set(nil, func(e *exchange) {
		if e.is("POST", "/v1/tx") && isCommit(t, e, alice) {
			e.status = 0
			alice.Close()
		}
	})
	_, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(carol)})
	w.wire.set(nil, nil)
	if err == nil {
		t.Fatal("the crash had no effect")
	}
	alice.crash()
	alice.cleanSync()
	if s := alice.state(id); s.Epoch != 2 {
		t.Fatalf("after the crash: %+v", s)
	}
	carol.reads(alice.encrypt(id, "we go on"), "we go on", alice)
	alice.reads(early, "early", alice)
	bob.reads(early, "early", alice)
}

// TestFlaw25_NothingIsTakenBeforeItIsStored: 2022 emptied the inbox when it was
// read, before anything was done with it.
func TestFlaw25_NothingIsTakenBeforeItIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	alice.ensureGroup(newID(t), bob)
	queue := func() (n int) {
		err := bob.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) error {
			page, err := bob.o.Server.Deliveries(ctx, token, DeliveryQuery{Account: bob.self})
			n = len(page.Messages)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/tx") }, faults["500 page"])
	if r, err := bob.Sync(t.Context(), bob.self); err == nil {
		t.Fatalf("the fault had no effect: %+v", r)
	}
	w.wire.set(nil, nil)
	if n := queue(); n != 1 {
		t.Fatalf("%d messages wait after a failed Sync, want 1", n)
	}
	bob.crash()
	if r := bob.cleanSync(); len(r.Joined) != 1 {
		t.Fatalf("%+v", r)
	}
	if n := queue(); n != 0 {
		t.Errorf("%d messages wait after a Sync", n)
	}
	if r := bob.sibling().cleanSync(); r.Processed != 0 {
		t.Errorf("a sibling did it again: %+v", r)
	}
}

// TestFlaw29_ReadingWritesNothing: 2022 uploaded the whole group for each
// message sent or read.
func TestFlaw29_ReadingWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	var messages [][]byte
	for n := range 20 {
		messages = append(messages, alice.encrypt(id, fmt.Sprintf("message %d", n)))
		if n == 10 {
			if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
				t.Fatal(err)
			}
		}
	}
	bob.cleanSync()
	fresh := bob.sibling()
	w.wire.reset()
	for n, b := range messages {
		bob.reads(b, fmt.Sprintf("message %d", n), alice)
		bob.reads(b, fmt.Sprintf("message %d", n), alice)
	}
	if all := w.wire.requests(); len(all) != 0 {
		t.Errorf("reading made %d requests, the first %s %s", len(all), all[0].request.Method, all[0].request.URL.Path)
	}
	for n, b := range messages {
		fresh.reads(b, fmt.Sprintf("message %d", n), alice)
	}
	for _, e := range w.wire.requests() {
		if !e.is("POST", "/v1/objects") && !e.is("GET", "/v1/") {
			t.Errorf("a new device reads with %s %s", e.request.Method, e.request.URL.Path)
		}
	}
	if n := w.wire.count("POST", "/v1/objects"); n > 12 {
		t.Errorf("%d requests for two epochs", n)
	}
}

// TestFlaw29_TrafficPerMessageIsConstant: whatever the group's size and age.
func TestFlaw29_TrafficPerMessageIsConstant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	dialog := alice.ensureDialog(bob)
	group := newID(t)
	alice.ensureGroup(group, bob)
	for range 3 { // age
		alice.ensureGroup(group, carol)
		if err := alice.Remove(t.Context(), alice.self, group, accounts(carol)); err != nil {
			t.Fatal(err)
		}
	}
	traffic := func(id ConversationID) (requests, octets int) {
		alice.encrypt(id, "warm up")
		w.wire.reset()
		for range blockSize {
			alice.encrypt(id, "0123456789")
		}
		for _, e := range w.wire.requests() {
			requests++
			octets += len(e.sent) + len(e.answered)
		}
		return requests, octets
	}
	r1, o1 := traffic(dialog)
	r2, o2 := traffic(group)
	if r1 != r2 || o2 > o1*11/10 {
		t.Errorf("dialog %d requests, %d octets; old group %d, %d", r1, o1, r2, o2)
	}
	if r1 > 2*blockSize+4 {
		t.Errorf("%d requests for %d messages", r1, blockSize)
	}
}

// TestSignOutWithoutTheServer: what the device held is gone all the same, and
// the Client says that it is closed.
func TestSignOutWithoutTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	phone := alice.sibling()
	w.wire.fail(func(*exchange) bool { return true }, faults["500 page"])
	if err := phone.SignOut(t.Context()); err == nil {
		t.Fatal("the key server was not told, and SignOut says nothing")
	}
	w.wire.set(nil, nil)
	if _, err := phone.Sync(t.Context(), phone.self); !errors.Is(err, ErrClosed) {
		t.Errorf("after SignOut: %v", err)
	}
	if _, err := Resume(t.Context(), w.options(phone.store)); !errors.Is(err, ErrNewDevice) {
		t.Errorf("resume after SignOut: %v", err)
	}
	list, err := alice.Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if !d.This {
			if err := alice.RevokeDevice(t.Context(), d.ID); err != nil {
				t.Errorf("revoke: %v", err)
			}
		}
	}
	if list, err = alice.Devices(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("devices left: %+v, %v", list, err)
	}
}
