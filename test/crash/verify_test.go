package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
	"github.com/cloudmls/gateway/internal/mailseal"
	"github.com/cloudmls/gateway/internal/mime"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/mls"
	"github.com/cloudmls/gateway/test/stack"
)

// resentField marks what a gateway sent again.
const resentField = "CloudMLS-Resent: an earlier copy was not confirmed\r\n"

// copied is one message of a mailbox, as the provider stores it.
type copied struct {
	uid    int
	raw    []byte
	marked bool
}

// mailbox reads all of a mailbox past the gateway, by Message-ID.
func mailbox(t *testing.T, c *stack.IMAP, name string) map[string][]copied {
	t.Helper()
	c.OK("SELECT " + name)
	all := map[string][]copied{}
	for _, line := range c.OK("UID FETCH 1:* (UID BODY.PEEK[])") {
		v, err := stack.ParseFetch(line)
		if err != nil {
			t.Fatal(err)
		}
		if v == nil {
			continue
		}
		raw := v["BODY[]"].Str
		h := header(t, raw)
		var uid int
		if _, err := fmt.Sscan(v["UID"].Text(), &uid); err != nil {
			t.Fatal(err)
		}
		all[h.MessageID] = append(all[h.MessageID], copied{uid, raw, bytes.Contains(raw, []byte(resentField))})
	}
	return all
}

func header(t *testing.T, raw []byte) *mailseal.Header {
	t.Helper()
	b, err := mailseal.ReadHeader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := mailseal.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// arrived waits until every message that was promised is in the mailboxes, and
// returns what is there.
func arrived(t *testing.T, l *load, people []string) map[string]map[string][]copied {
	t.Helper()
	for deadline := time.Now().Add(2 * stack.Deadline); ; {
		boxes := map[string]map[string][]copied{}
		for _, p := range people {
			boxes[p] = mailbox(t, lab.Direct(t, p), "INBOX")
		}
		var missing []string
		for _, a := range l.all {
			for _, rcpt := range a.to {
				if a.answered && len(boxes[rcpt][a.id]) == 0 {
					missing = append(missing, a.id+" for "+rcpt)
				}
			}
		}
		if len(missing) == 0 {
			return boxes
		}
		if time.Now().After(deadline) {
			t.Errorf("%d messages were answered 250 and are lost: %v", len(missing), missing)
			return boxes
		}
		time.Sleep(300 * time.Millisecond) // the providers deliver; there is nothing to wait on
	}
}

// checkCopies: a recipient has one copy of what was sent, and others only if
// these are marked and hold the same octets.
func checkCopies(t *testing.T, l *load, boxes map[string]map[string][]copied) (copies, marked int) {
	t.Helper()
	for _, a := range l.all {
		for _, rcpt := range a.to {
			list := boxes[rcpt][a.id]
			unmarked := 0
			for _, c := range list {
				copies++
				if c.marked {
					marked++
				} else {
					unmarked++
				}
				if want, got := sealed(t, list[0].raw), sealed(t, c.raw); !bytes.Equal(want, got) {
					t.Errorf("%s at %s: two copies with different octets", a.id, rcpt)
				}
			}
			if unmarked > 1 {
				t.Errorf("%s at %s: %d copies without a mark", a.id, rcpt, unmarked)
			}
		}
	}
	return copies, marked
}

// sealed is the message from the first field that the gateway wrote: behind the
// trace fields of the providers and the mark.
func sealed(t *testing.T, raw []byte) []byte {
	t.Helper()
	i := bytes.Index(raw, []byte("\r\nFrom: "))
	if i < 0 {
		t.Fatalf("no From field in %q", raw[:min(len(raw), 2000)])
	}
	return raw[i+2:]
}

// checkContents reads all copies through a gateway: each opens, is what was
// submitted, and nothing is to be warned of.
func checkContents(t *testing.T, l *load, g *stack.Gateway, person string) {
	t.Helper()
	c := g.Mail(person)
	c.OK("SELECT INBOX")
	submitted := map[string]*attempt{}
	for _, a := range l.all {
		submitted[a.id] = a
	}
	seen := 0
	for _, line := range c.OK("UID FETCH 1:* (UID FLAGS BODY.PEEK[])") {
		v, err := stack.ParseFetch(line)
		if err != nil {
			t.Fatal(err)
		}
		if v == nil {
			continue
		}
		shown := v["BODY[]"].Str
		a := submitted[header(t, shown).MessageID]
		if a == nil {
			continue // of another test
		}
		seen++
		if got := stack.WithoutPrefix(t, shown); !bytes.Equal(got, a.msg) {
			t.Errorf("%s at %s does not open as submitted:\n%s", a.id, person, got[:min(len(got), 1000)])
		}
		flags := v["FLAGS"].String()
		if !strings.Contains(flags, "$MLSEncrypted") || strings.Contains(flags, "$MLSWarning") {
			t.Errorf("%s at %s: flags %s", a.id, person, flags)
		}
	}
	if seen == 0 {
		t.Errorf("%s has no message of the run", person)
	}
}

// checkDrafts: every draft that was answered OK is there and opens.
func checkDrafts(t *testing.T, l *load, g *stack.Gateway, person string) {
	t.Helper()
	c := g.Mail(person)
	c.OK("SELECT Drafts")
	there := map[string]int{}
	for _, line := range c.OK("UID FETCH 1:* (UID BODY.PEEK[])") {
		v, err := stack.ParseFetch(line)
		if err != nil {
			t.Fatal(err)
		}
		if v == nil {
			continue
		}
		shown := stack.WithoutPrefix(t, v["BODY[]"].Str)
		for _, a := range l.all {
			if len(a.to) == 0 && bytes.Equal(a.msg, shown) {
				there[a.id]++
			}
		}
	}
	answered := 0
	for _, a := range l.all {
		if len(a.to) > 0 || a.from != person {
			continue
		}
		if a.answered {
			answered++
		}
		if n := there[a.id]; a.answered && n != 1 || n > 1 {
			t.Errorf("draft %s is there %d times, answered: %v", a.id, n, a.answered)
		}
	}
	if answered == 0 {
		t.Error("no draft was stored in the whole run")
	}
}

// sdk signs the user in on a device of its own, without a gateway.
func sdk(t *testing.T, s *stack.Stack, user string) *cloudmls.Client {
	t.Helper()
	remote, err := keyclient.New(keyclient.Options{URL: s.KeyURL})
	if err != nil {
		t.Fatal(err)
	}
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "device.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	password, err := os.ReadFile(filepath.Join(s.Dir, user+".password"))
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256([]byte("vault key of a test"))
	c, err := cloudmls.Open(context.Background(), user, strings.TrimSpace(string(password)), cloudmls.Options{
		Server: remote, Store: store, VaultKey: key[:], Origin: s.KeyURL, DeviceName: "verifier",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// checkGenerations decrypts every stored ciphertext of the run with the SDK: no place in a
// sender's sequence holds two different ones, and none is warned of.
func checkGenerations(t *testing.T, s *stack.Stack, l *load, user string, boxes map[string]map[string][]copied, people []string) int {
	t.Helper()
	c := sdk(t, s, user)
	places := map[string][32]byte{}
	for _, person := range people {
		self := cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: person}
		for _, a := range l.all { // the mailboxes hold mail of other tests as well
			id := a.id
			for _, m := range boxes[person][id] {
				control := controlPart(t, id, m.raw)
				if control == nil {
					continue
				}
				p, err := c.Decrypt(t.Context(), self, control)
				if err != nil {
					t.Errorf("%s at %s: %v", id, person, err)
					continue
				}
				if len(p.Warnings) > 0 {
					t.Errorf("%s at %s: %v", id, person, p.Warnings)
				}
				parsed, err := mls.ParseMessage(control)
				if err != nil {
					t.Fatal(err)
				}
				group, _, _ := parsed.Group()
				place := fmt.Sprintf("%x/%d/%s/%d", group, p.Epoch, p.Sender, p.Generation)
				if other, used := places[place]; used && other != p.Ref {
					t.Errorf("%s at %s: generation %s was used for two ciphertexts", id, person, place)
				}
				places[place] = p.Ref
			}
		}
	}
	return len(places)
}

// controlPart is the MLSMessage of a stored message; nil where it is none of
// ours. Everything that was sent in these tests has to be.
func controlPart(t *testing.T, id string, raw []byte) []byte {
	t.Helper()
	root, err := mime.Parse(bytes.NewReader(raw), int64(len(raw)), mime.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	where, ok := mailseal.Locate(root)
	if !ok {
		t.Errorf("%s is stored without encryption", id)
		return nil
	}
	control, err := mailseal.DecodeControl(bytes.NewReader(raw), where.Control)
	if err != nil {
		t.Fatal(err)
	}
	return control
}

// checkNothingReadable searches all that lies on disk for the canaries, with a
// mail in clear as the control of the search.
func checkNothingReadable(t *testing.T, s *stack.Stack, l *load) {
	t.Helper()
	var canaries []string
	for _, a := range l.all {
		canaries = append(canaries, a.canary)
	}
	control, plain := letter("<control@crash.test>", stack.Alice, []string{stack.Erin}, "", 400)
	lab.SendDirect(t, stack.Alice, stack.Erin, plain)
	lab.Direct(t, stack.Erin).Arrives("INBOX", "<control@crash.test>")
	if len(stack.FindCanaries(t, []string{control}, lab.Folders()...)[control]) == 0 {
		t.Error("the search did not find a mail in clear")
	}
	for c, files := range stack.FindCanaries(t, canaries, append([]string{s.Dir}, lab.Folders()...)...) {
		t.Errorf("%s lies readable in %v", c, files)
	}
}
