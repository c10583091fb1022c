package cloudmls

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/mls"
)

// TestWhatOneMessageHolds: everything that is said to fit does, and whatever does not
// is refused before anything is used up for it, however large it is.
func TestWhatOneMessageHolds(t *testing.T) {
	t.Parallel()
	w, alice, bob, id := newPair(t)
	most := bytes.Repeat([]byte{7}, 15<<20)
	b, err := alice.Encrypt(t.Context(), alice.self, id, most, make([]byte, 1000))
	if err != nil || len(b) > mls.MaxMessage {
		t.Fatalf("15 MiB: %d octets, %v", len(b), err)
	}
	if p, err := bob.Decrypt(t.Context(), bob.self, b); err != nil || !bytes.Equal(p.Data, most) {
		t.Errorf("15 MiB: %v", err)
	}
	first := bob.reads(alice.encrypt(id, "one"), "one", alice)
	w.wire.reset()
	for n, aad := range map[int]int{16 << 20: 0, 1: 16 << 20, 15 << 20: 1 << 20, 1 << 30: 0} {
		_, err := alice.Encrypt(t.Context(), alice.self, id, make([]byte, n), make([]byte, aad))
		if err == nil || !strings.Contains(err.Error(), "EncryptStream") {
			t.Errorf("%d octets and %d: %v", n, aad, err)
		}
	}
	if n := w.wire.count("POST", "/") + w.wire.count("GET", "/"); n != 0 {
		t.Errorf("%d requests for what cannot be one message", n)
	}
	if p := bob.reads(alice.encrypt(id, "two"), "two", alice); p.Generation != first.Generation+1 {
		t.Errorf("generation %d after %d", p.Generation, first.Generation)
	}
	// Whatever is not refused at once is not refused later.
	all := make([]byte, mls.MaxMessage)
	n := 15 << 20
	for fits(all[:n+4099], nil) == nil {
		n += 4099
	}
	if _, err := alice.Encrypt(t.Context(), alice.self, id, all[:n], nil); err != nil {
		t.Errorf("%d octets: %v", n, err)
	}
}

// TestStreamArguments: a reader or writer that is none is told, and so is what cannot
// go with the message, before the content is read.
func TestStreamArguments(t *testing.T) {
	t.Parallel()
	_, alice, bob, id := newPair(t)
	content := strings.NewReader("content")
	if _, err := alice.EncryptStream(t.Context(), alice.self, id, nil, content, nil); err == nil {
		t.Error("nowhere for the bulk")
	}
	if _, err := alice.EncryptStream(t.Context(), alice.self, id, io.Discard, nil, nil); err == nil {
		t.Error("no content")
	}
	if _, err := alice.EncryptStream(t.Context(), alice.self, id, io.Discard, content, make([]byte, 17<<20)); err == nil || content.Len() != 7 {
		t.Errorf("too much aad: %v, %d octets are left of the content", err, content.Len())
	}
	var bulk bytes.Buffer
	b, err := alice.EncryptStream(t.Context(), alice.self, id, &bulk, content, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.DecryptStream(t.Context(), bob.self, b, nil); err == nil {
		t.Error("no bulk")
	}
	s, err := bob.DecryptStream(t.Context(), bob.self, b, &bulk)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDeviceNameArgument: what other devices, and the key server, are shown as the name
// of this one is text.
func TestDeviceNameArgument(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"": true, "Ärztin's phone 📱": true, strings.Repeat("n", 128): true,
		"\xff": false, "a\x00": false, "a\nb": false, strings.Repeat("n", 129): false,
	} {
		o := Options{Server: struct{ Server }{}, Store: NewMemoryStore(), VaultKey: make([]byte, 32), Origin: "https://keys.example.org", DeviceName: name}
		if err := o.check(); (err == nil) != want {
			t.Errorf("%.10q: %v", name, err)
		}
	}
}

// TestStrangerIsNoDowngrade: somebody without an account keeps nobody's post-quantum
// protection; that they have none is all there is to tell.
func TestStrangerIsNoDowngrade(t *testing.T) {
	t.Parallel()
	w, alice, bob, _ := newPair(t)
	group := alice.ensureGroup(newID(t), bob).ID
	nobody := Account{Platform: alice.self.Platform, ID: "nobody@example.org"}
	var missing *MissingKeyPackagesError
	for _, people := range [][]Account{{nobody}, {nobody, {Platform: nobody.Platform, ID: "noone@example.org"}}} {
		if _, err := alice.Add(t.Context(), alice.self, group, people); errors.Is(err, ErrDowngrade) || !errors.As(err, &missing) || len(missing.Accounts) != len(people) {
			t.Errorf("%v: %v", people, err)
		}
	}
	carol := w.user("carol")
	w.hides(carol)
	if _, err := alice.Add(t.Context(), alice.self, group, accounts(carol)); !errors.Is(err, ErrDowngrade) {
		t.Errorf("somebody whose other KeyPackages are kept back: %v", err)
	}
}
