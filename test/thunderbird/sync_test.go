package thunderbird

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// syncing: a mailbox with 500 messages, half of them encrypted, listed with the
// right subjects and sizes; then downloaded, and read without the network.
func (w *world) syncing(t *testing.T) {
	const each = 250
	want := map[string]string{} // subjects by Message-ID
	direct := lab.Direct(t, stack.Carol)
	size := map[string]int{}
	for i := range each {
		l := letter{id: fmt.Sprintf("<plain-%d@b.test>", i), from: stack.Erin, to: stack.Carol,
			subject: fmt.Sprintf("Plain mail %d, größer", i), text: strings.Repeat("in clear. ", 1+i%40)}
		direct.Append("INBOX", "()", l.bytes())
		want[bare(l.id)], size[bare(l.id)] = l.subject, len(l.bytes())
	}
	start := time.Now()
	from := submit(t, w.erin, stack.Erin)
	for i := range each {
		l := letter{id: fmt.Sprintf("<sealed-%d@b.test>", i), from: stack.Erin, to: stack.Carol,
			subject: fmt.Sprintf("Sealed %d, größer %s", i, w.secret()), text: strings.Repeat("not in clear. ", 1+i%40)}
		from.send(t, l.bytes(), stack.Carol)
		want[bare(l.id)] = l.subject
	}
	t.Logf("thunderbird-prepare messages=%d submitted=%dms", each, time.Since(start).Milliseconds())
	c := w.carol.Mail(stack.Carol)
	c.Arrives("INBOX", fmt.Sprintf("<sealed-%d@b.test>", each-1))
	for deadline := time.Now().Add(stack.Deadline); ; time.Sleep(100 * time.Millisecond) { // Postfix delivers; there is nothing to wait on
		direct.OK("SELECT INBOX")
		n := len(direct.Search("ALL"))
		if n == 2*each {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages arrived", n, 2*each)
		}
	}

	start = time.Now()
	w.tb.setUp(t, w.carol, stack.Carol)
	list := w.tb.list(t, stack.Carol, "inbox")
	t.Logf("thunderbird-first-sync messages=%d encrypted=%d took=%dms", len(list), each, time.Since(start).Milliseconds())
	if len(list) != 2*each {
		t.Fatalf("Thunderbird lists %d messages, want %d", len(list), 2*each)
	}
	told := sizes(t, c)
	encrypted := 0
	for _, m := range list {
		if m.Subject != want[m.MessageID] || m.Subject == "" {
			t.Errorf("message %d (%s) is listed as %q, want %q", m.UID, m.MessageID, m.Subject, want[m.MessageID])
		}
		if n, plain := size[m.MessageID]; plain && m.Size != n {
			t.Errorf("plain message %s is listed with %d octets, want %d", m.MessageID, m.Size, n)
		}
		if m.Size != told[m.UID] {
			t.Errorf("message %s is listed with %d octets, the gateway tells %d", m.MessageID, m.Size, told[m.UID])
		}
		if strings.Contains(strings.ToLower(m.Keywords), "$mlsencrypted") {
			encrypted++
		}
	}
	if encrypted != each {
		t.Errorf("%d messages are marked as encrypted, want %d", encrypted, each)
	}

	start = time.Now()
	call[any](t, w.tb, "downloadForOffline", args{"account": stack.Carol})
	t.Logf("thunderbird-download messages=%d took=%dms", len(list), time.Since(start).Milliseconds())
	w.offline(t, list)
}

// offline: without the network everything downloaded can be read, with the
// size that was promised; afterwards Thunderbird goes on.
func (w *world) offline(t *testing.T, list []message) {
	call[any](t, w.tb, "offline", args{"offline": true})
	for i := 0; i < len(list); i += 25 {
		m := list[i]
		got := call[struct{ Size int }](t, w.tb, "source", args{"account": stack.Carol, "id": m.UID})
		if got.Size != m.Size {
			t.Errorf("message %s has %d octets, %d were promised", m.MessageID, got.Size, m.Size)
		}
	}
	for _, m := range []message{list[1], list[len(list)-1]} {
		if got := w.tb.read(t, stack.Carol, "inbox", m.MessageID); !strings.Contains(got.Body, "in clear. ") {
			t.Errorf("message %s reads %q offline", m.MessageID, got.Body)
		}
	}
	call[any](t, w.tb, "offline", args{"offline": false})
	if again := w.tb.list(t, stack.Carol, "inbox"); len(again) != len(list) {
		t.Errorf("back online Thunderbird lists %d messages, want %d", len(again), len(list))
	}
}

// sizes are what a gateway says about the messages of the selected mailbox.
func sizes(t *testing.T, c *stack.IMAP) map[int]int {
	t.Helper()
	out := map[int]int{}
	c.OK("SELECT INBOX")
	for _, l := range c.OK("UID FETCH 1:* (RFC822.SIZE)") {
		v, err := stack.ParseFetch(l)
		if err != nil {
			t.Fatalf("%v in %q", err, l)
		}
		if v == nil {
			continue
		}
		uid, err := strconv.Atoi(v["UID"].Text())
		if err != nil {
			t.Fatalf("%v in %q", err, l)
		}
		if out[uid], err = strconv.Atoi(v["RFC822.SIZE"].Text()); err != nil {
			t.Fatalf("%v in %q", err, l)
		}
	}
	return out
}
