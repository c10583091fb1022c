package cloudmls

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestFlaw16_PasswordCanBeChangedAndCountsWhole: in 2022 a password could not be
// changed, a forgotten one was the end, and what was behind its 72nd octet did
// not count.
func TestFlaw16_PasswordCanBeChangedAndCountsWhole(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	long := strings.Repeat("seventy-two octets and more ", 4)
	c, recovery, err := Register(t.Context(), "alice-user", long+"x", h.optionsAs("alice", NewMemoryStore()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.AddAccount(t.Context(), account("alice")); err != nil {
		t.Fatal(err)
	}
	open := func(word string) error {
		d, err := Open(t.Context(), "alice-user", word, h.optionsAs("another", NewMemoryStore()))
		if err == nil {
			err = d.SignOut(t.Context())
		}
		return err
	}
	if err := open(long + "y"); !errors.Is(err, ErrCredentials) {
		t.Errorf("another password with the same beginning: %v", err)
	}
	before := h.evil.ObjectsOf("alice-user")
	if err := c.ChangePassword(t.Context(), long+"x", long+"y"); err != nil {
		t.Fatal(err)
	}
	after := h.evil.ObjectsOf("alice-user")
	for object := state.TypeProfile + 1; object <= state.TypeApp; object++ {
		if ids := evil.Changed(before, after, byte(object)); len(ids) != 0 {
			t.Errorf("a change of password sealed %d objects of type %d anew", len(ids), object)
		}
	}
	if err := open(long + "x"); !errors.Is(err, ErrCredentials) {
		t.Errorf("the old password: %v", err)
	}
	if err := open(long + "y"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	d, _, err := Recover(t.Context(), "alice-user", recovery.Code, "a third password", h.optionsAs("recovered", NewMemoryStore()))
	if err != nil {
		t.Fatalf("a forgotten password: %v", err)
	}
	defer d.Close()
	if list, err := d.Accounts(t.Context()); err != nil || !slices.Equal(list, []Account{account("alice")}) {
		t.Errorf("after the recovery: %v, %v", list, err)
	}
}

// TestFlaw17_SecretsDoNotPrint: keys of 2022 were strings, and logs named groups
// and members. What this package hands out prints without its secrets, whatever
// the verb, and its log names nobody above the debug level.
func TestFlaw17_SecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	var log safeBuffer
	alice, bob := h.user("alice"), h.user("bob")
	o := h.optionsAs("logged", NewMemoryStore())
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	c, err := Open(t.Context(), alice.username, password, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	recovery, err := c.ReplaceRecoveryCode(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	id := newID(t)
	if _, err := c.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(bob)}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // and what goes wrong
		h.evil.Deliver(keyapi.Delivery{Type: keyapi.DeliveryCommit, Conversation: id[:], Kind: KindGroup, Sender: bob.self, Message: []byte("x")}, alice.self)
		_, _ = c.Sync(t.Context(), alice.self)
		lie := h.evil.Always(evil.From(evil.To("GET", "/v1/keypackages"), "logged"), evil.Down)
		h.clock.advance(2 * poolInterval)
		if _, err := c.Sync(t.Context(), alice.self); err != nil {
			t.Fatal(err)
		}
		if lie.Hits() == 0 {
			t.Fatal("the pool was not looked at")
		}
		lie.Stop()
	}
	var printed bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c, o, &o, recovery, *recovery, []any{o, recovery}, map[string]any{"o": o}} {
			fmt.Fprintf(&printed, verb+"\n", v)
		}
	}
	for _, handler := range []slog.Handler{
		slog.NewTextHandler(&printed, nil), slog.NewJSONHandler(&printed, nil),
	} {
		slog.New(handler).Info("x", "client", c, "options", o, "recovery", recovery, "by value", *recovery)
	}
	if !bytes.Contains(printed.Bytes(), []byte(redacted)) {
		t.Fatalf("nothing was printed: %s", printed.Bytes())
	}
	secrets := map[string][]byte{
		"vault key": o.VaultKey, "recovery code": []byte(recovery.Code), "its end": []byte(recovery.Code[len(recovery.Code)-14:]),
	}
	for name, secret := range secrets {
		if how := evil.Find(printed.Bytes(), secret); how != "" {
			t.Errorf("the %s is printed, %s", name, how)
		}
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.b.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	secrets["own name"], secrets["Bob's name"] = []byte(alice.self.ID), []byte(bob.self.ID)
	secrets["user name"], secrets["conversation"] = []byte(alice.username), id[:]
	for name, secret := range secrets {
		if how := evil.Find(log.b.Bytes(), secret); how != "" {
			t.Errorf("the log has the %s, %s: %s", name, how, log.b.Bytes())
		}
	}
}

// TestFlaw26_OrderIsNotTheServers: 2022 delivered Commits and Welcomes in
// whatever order, and what failed was skipped. Here a Commit that does not follow
// is not applied and not forgotten: nothing is sent in the conversation until its
// members have let this device in again, or the order is right.
func TestFlaw26_OrderIsNotTheServers(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	group := s.groups[0]
	s.alice.ensureGroup(group, s.user("dave"))
	s.alice.ensureGroup(group, s.user("erin"))
	swapped := false
	lie := s.evil.Deliveries(s.bob.self, func(p *keyapi.Deliveries) {
		if len(p.Messages) < 2 || swapped {
			return
		}
		swapped = true
		a, b := &p.Messages[0], &p.Messages[1]
		*a, *b = *b, *a
		a.Seq, b.Seq = b.Seq, a.Seq
	})
	before := s.bob.state(group)
	r := s.bob.mustSync()
	lie.Stop()
	if !swapped || len(r.Problems) == 0 {
		t.Fatalf("swapped %v: %+v", swapped, r)
	}
	after := s.bob.state(group)
	if after.Epoch != before.Epoch || !slices.Equal(after.Members, before.Members) {
		t.Errorf("a Commit out of order changed the group: %+v", after)
	}
	b, err := s.bob.Encrypt(t.Context(), s.bob.self, group, []byte("to whom?"), nil)
	if err == nil || b != nil {
		t.Errorf("Bob writes to an epoch that has ended: %v", err)
	}
	if b, err := s.bob.Encrypt(t.Context(), s.bob.self, s.groups[1], []byte("to others"), nil); err != nil || b == nil {
		t.Errorf("another conversation: %v", err)
	}
}

// TestFlaw31_IdsAreVerbatimPerPlatform: in 2022 two platforms shared ids, "/" cut
// them, and upper-case ones were never found again.
func TestFlaw31_IdsAreVerbatimPerPlatform(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice, bob := h.user("alice"), h.user("bob")
	ids := []Account{
		{Platform: "chat", ID: "same"}, {Platform: "talk", ID: "same"}, {Platform: "chat", ID: "SAME"}, {Platform: "chat", ID: "same/x"},
		{Platform: "chat", ID: "same/X?y=%2F#z"}, {Platform: "chat", ID: "./.."}, {Platform: "chat", ID: "日本 😀"},
	}
	for _, a := range ids {
		if err := bob.AddAccount(t.Context(), a); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
	}
	mine := map[string]Account{"chat": {Platform: "chat", ID: "Alice"}, "talk": {Platform: "talk", ID: "Alice"}}
	for _, a := range mine {
		if err := alice.AddAccount(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[ConversationID]Account{}
	for _, a := range ids {
		self := mine[a.Platform]
		s, err := alice.Ensure(t.Context(), self, Conversation{Kind: KindDialog, Members: []Account{a}})
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		if other, twice := seen[s.ID]; twice || s.ID != groupid.Dialog(a.Platform, self.ID, a.ID) {
			t.Errorf("%s and %s have one dialog", a, other)
		}
		seen[s.ID] = a
		text := "for " + a.String()
		b, err := alice.Encrypt(t.Context(), self, s.ID, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := bob.Sync(t.Context(), a); err != nil || !slices.Equal(r.Joined, []ConversationID{s.ID}) {
			t.Fatalf("%s: %+v, %v", a, r, err)
		}
		for _, reader := range ids {
			p, err := bob.Decrypt(t.Context(), reader, b)
			if (err == nil) != (reader == a) || err == nil && string(p.Data) != text {
				t.Errorf("what was for %s, read by %s: %v", a, reader, err)
			}
		}
	}
}

// TestFlaw36_ServerSeesNothingOfMessages: the server of 2022 saw who wrote to
// whom, in which group and when. Of messages it sees nothing here: neither that
// they are sent, but for a reservation of generations now and then, nor that they
// are read; and no request on their account names a person, a conversation or a
// group. What is known to it of handshakes is in docs/spec/keyserver-api.md.
func TestFlaw36_ServerSeesNothingOfMessages(t *testing.T) {
	t.Parallel()
	s := newSettled(t)
	group := s.groups[0]
	s.alice.encrypt(group, "warms up")
	instance := s.alice.state(group).group(t, s.alice)
	s.evil.ClearLog()
	for n := range 2 * blockSize {
		text := fmt.Sprintf("message %d of the conversation", n)
		b := s.alice.encrypt(group, text)
		s.bob.reads(b, text, s.alice)
		s.carol.reads(b, text, s.alice)
	}
	secrets := map[string][]byte{
		"conversation": group[:], "conversation in a header": []byte(group.String()), "group": instance,
		"a text": []byte("of the conversation"), "the other's name": []byte(s.carol.self.ID), "the reader's name": []byte(s.bob.self.ID),
	}
	writes := 0
	for _, e := range s.evil.Log() {
		if e.Device != "alice" {
			t.Errorf("reading asks %s %s", e.Method, e.Path)
		}
		if e.Path == "/v1/tx" {
			writes++
		}
		for name, secret := range secrets {
			if how := evil.Find(e.Octets(), secret); how != "" {
				t.Errorf("%s %s names the %s, %s", e.Method, e.Path, name, how)
			}
		}
	}
	if writes == 0 || writes > 4 {
		t.Errorf("%d writes for %d messages", writes, 2*blockSize)
	}
}
