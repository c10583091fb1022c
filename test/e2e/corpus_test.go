package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/corpus"
	"github.com/cloudmls/gateway/test/stack"
)

// journey is the corpus after it went from Alice's gateway to Erin's.
type journey struct {
	*stack.Stack
	alice, erin *stack.Gateway
	served      *stack.IMAP      // Erin's, through her gateway, INBOX selected
	mails       []corpus.Message // all that were sent
	uid         map[string]int   // by name, in Erin's INBOX
	whole       map[string][]byte
}

// less is what the reader gets of a submitted message: all but the Bcc field,
// which one message of the corpus begins with.
func less(m corpus.Message) []byte {
	if m.Name != "bcc-field" {
		return m.Octets
	}
	return m.Octets[bytes.Index(m.Octets, []byte("\r\nDate:"))+2:]
}

// TestCorpus sends mail of every kind through one gateway and reads it through
// another: whole, by parts and in pieces. Nothing of it lies readable anywhere.
func TestCorpus(t *testing.T) {
	s := stack.New(t, lab)
	lab.Empty(t, stack.Erin, "INBOX") // of what other tests left there
	j := &journey{Stack: s, alice: s.AddUser("alice", stack.Alice), erin: s.AddUser("erin", stack.Erin),
		uid: map[string]int{}, whole: map[string][]byte{}}
	var err error
	if j.mails, err = corpus.All(); err != nil {
		t.Fatal(err)
	}
	step := time.Now()
	took := func(what string) {
		t.Logf("%s: %s", what, time.Since(step).Round(time.Millisecond))
		step = time.Now()
	}
	if refused := j.send(t); refused > 0 {
		t.Errorf("%d messages were refused", refused)
	}
	took("send and read whole")
	j.signatures(t)
	took("signatures")
	j.pieces(t)
	took("pieces")

	var secrets []string
	for _, m := range j.mails {
		secrets = append(secrets, m.Canaries...)
	}
	for c, files := range stack.FindCanaries(t, secrets, append([]string{s.Dir}, lab.Folders()...)...) {
		t.Errorf("%s lies readable in %v", c, files)
	}
	took("canary search")

	// From here on the opened messages lie at the provider on purpose.
	plain := lab.Direct(t, stack.Erin)
	plain.Do("CREATE Corpus")
	plain.OK("SELECT Corpus")
	t.Cleanup(func() { plain.Do("CLOSE"); plain.Do("DELETE Corpus") })
	j.compare(t, plain)
	took("compare with Dovecot")

	// The control: every canary is one that the search finds.
	found := stack.FindCanaries(t, secrets, lab.Folders()...)
	for _, c := range secrets {
		if len(found[c]) == 0 && !strings.HasPrefix(c, "CANARY-bcc-field-bcc-") {
			t.Errorf("the search does not find %s in a message that lies there in clear", c)
		}
	}
	took("control")
}

// TestMutants does the same with 200 damaged messages: what is accepted comes
// out as it went in, and is told apart into parts as Dovecot does.
func TestMutants(t *testing.T) {
	s := stack.New(t, lab)
	lab.Empty(t, stack.Erin, "INBOX")
	j := &journey{Stack: s, alice: s.AddUser("alice", stack.Alice), erin: s.AddUser("erin", stack.Erin),
		uid: map[string]int{}, whole: map[string][]byte{}}
	var err error
	if j.mails, err = corpus.Mutants(200, 2026); err != nil {
		t.Fatal(err)
	}
	if refused := j.send(t); refused > 60 {
		t.Errorf("%d of 200 mutants were refused: too few are left to mean anything", refused)
	}
	plain := lab.Direct(t, stack.Erin)
	plain.Do("CREATE Corpus")
	plain.OK("SELECT Corpus")
	t.Cleanup(func() { plain.Do("CLOSE"); plain.Do("DELETE Corpus") })
	j.compare(t, plain)
}

// send submits everything, finds each message again by its octets, and returns
// how many were refused for good.
func (j *journey) send(t *testing.T) (refused int) {
	t.Helper()
	out := j.alice.Submission(stack.Alice)
	var sent []corpus.Message
	for _, m := range j.mails {
		err := out.Send([]string{stack.Erin}, m.Octets)
		var reply *textproto.Error
		switch {
		case err == nil:
			sent = append(sent, m)
		case errors.As(err, &reply) && reply.Code/100 == 5 && strings.Contains(reply.Msg, "Not sent: "):
			t.Logf("%s: %v", m.Name, err)
			refused++
		default:
			t.Errorf("%s: submit: %v", m.Name, err)
		}
	}
	j.mails = sent
	j.served = j.erin.Mail(stack.Erin)
	uids := arrived(t, j.served, len(sent))
	lost := map[string][]byte{}
	byContent := map[string]string{}
	for _, m := range j.mails {
		lost[m.Name] = less(m)
		byContent[string(less(m))] = m.Name
	}
	for _, uid := range uids {
		items := fetchItems(t, j.served, uid, "RFC822.SIZE", "FLAGS", "BODY.PEEK[]")
		whole := items["BODY[]"].Str
		name, ok := byContent[string(stack.WithoutPrefix(t, whole))]
		if !ok {
			t.Errorf("UID %d is none of the submitted messages:\n%.1500q", uid, whole)
			continue
		}
		if _, again := lost[name]; !again {
			t.Errorf("%s arrived twice", name)
		}
		delete(lost, name)
		j.uid[name], j.whole[name] = uid, whole
		if got := items["RFC822.SIZE"].Text(); got != fmt.Sprint(len(whole)) {
			t.Errorf("%s: RFC822.SIZE %s, want %d", name, got, len(whole))
		}
		if flags := items["FLAGS"].String(); !strings.Contains(flags, "$MLSEncrypted") || strings.Contains(flags, "$MLSWarning") {
			t.Errorf("%s: flags %s", name, flags)
		}
	}
	for name, octets := range lost {
		t.Errorf("%s was not read back byte for byte: %.300q", name, octets)
	}
	return refused
}

// arrived waits until INBOX, which it selects, holds so many messages, and
// returns their UIDs.
func arrived(t *testing.T, c *stack.IMAP, n int) []int {
	t.Helper()
	for deadline := time.Now().Add(2 * stack.Deadline); ; {
		c.OK("SELECT INBOX")
		uids := c.Search("ALL")
		if len(uids) == n {
			return uids
		}
		if time.Now().After(deadline) || len(uids) > n {
			t.Fatalf("INBOX holds %d messages, want %d", len(uids), n)
		}
		time.Sleep(50 * time.Millisecond) // another process delivers; there is nothing to wait on
	}
}

// pieces fetches windows of the messages and of their texts, at random and
// around the places where chunks meet, and the whole in a row of windows.
func (j *journey) pieces(t *testing.T) {
	t.Helper()
	source := rand.New(rand.NewPCG(5, 6))
	for _, m := range j.mails {
		whole := j.whole[m.Name]
		if whole == nil {
			continue
		}
		start := bytes.Index(whole, []byte("\r\n\r\n")) + 4
		for section, want := range map[string][]byte{"": whole, "HEADER": whole[:start], "TEXT": whole[start:]} {
			var windows [][2]int
			for range 6 {
				windows = append(windows, [2]int{source.IntN(len(want) + 1), 1 + source.IntN(len(want)+100)})
			}
			for edge := 64 << 10; edge < len(want) && edge <= 4*64<<10; edge += 64 << 10 {
				prefix := len(whole) - len(less(m)) // chunks count from the inner message's first octet
				windows = append(windows, [2]int{edge - 3, 7}, [2]int{edge, 1}, [2]int{edge - 1, 1}, [2]int{edge + prefix - 2, 5}, [2]int{edge - 70, 65600})
			}
			windows = append(windows, [2]int{0, len(want) + 1}, [2]int{len(want), 10}, [2]int{max(len(want)-1, 0), 1}, [2]int{len(want) + 100, 1}, [2]int{0, 1})
			if len(want) > 1<<20 {
				windows = slices.DeleteFunc(windows, func(w [2]int) bool { return w[1] > 1<<20 }) // the whole was read before
			}
			for _, w := range windows {
				from, to := min(w[0], len(want)), min(w[0]+w[1], len(want))
				got := j.served.Fetch(j.uid[m.Name], fmt.Sprintf("BODY.PEEK[%s]<%d.%d>", section, w[0], w[1])).Str
				if !bytes.Equal(got, want[from:to]) {
					t.Errorf("%s: BODY[%s]<%d.%d>: got %d octets %.80q, want %d %.80q", m.Name, section, w[0], w[1], len(got), got, to-from, want[from:to])
				}
			}
		}
		step := max(1+source.IntN(2000), len(whole)/97*2+1) // odd, so that windows meet everywhere
		var joined []byte
		for at := 0; at < len(whole); at += 4 * step {
			var items []string // several windows in one command
			for i := at; i < at+4*step && i < len(whole); i += step {
				items = append(items, fmt.Sprintf("BODY.PEEK[]<%d.%d>", i, step))
			}
			got := fetchItems(t, j.served, j.uid[m.Name], items...)
			for i := at; i < at+4*step && i < len(whole); i += step {
				joined = append(joined, got[fmt.Sprintf("BODY[]<%d>", i)].Str...)
			}
		}
		if !bytes.Equal(joined, whole) {
			t.Errorf("%s: windows of %d octets do not make the whole", m.Name, step)
		}
	}
}

// fetchItems fetches several items of one message in one command.
func fetchItems(t *testing.T, c *stack.IMAP, uid int, items ...string) map[string]stack.Value {
	t.Helper()
	for _, l := range c.OK(fmt.Sprintf("UID FETCH %d (%s)", uid, strings.Join(items, " "))) {
		v, err := stack.ParseFetch(l)
		if err != nil {
			t.Fatalf("UID FETCH %d %v: %v in %.300q", uid, items, err, l)
		}
		if v["UID"].Text() == fmt.Sprint(uid) {
			return v
		}
	}
	t.Fatalf("UID FETCH %d %v: no answer", uid, items)
	return nil
}
