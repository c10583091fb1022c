package imapd_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
)

// script makes random commands on plain mailboxes. The same seed gives the
// same script.
type script struct {
	r *rand.Rand
	// maxUID bounds the numbers used.
	maxUID int
	// full adds what the in-memory provider hangs on: MOVE of nothing, "UID"
	// alone.
	full bool
}

func newScript(seed uint64) *script {
	return &script{r: rand.New(rand.NewPCG(seed, 1)), maxUID: 12}
}

func (s *script) pick(from ...string) string { return from[s.r.IntN(len(from))] }

func (s *script) num() string {
	if s.r.IntN(8) == 0 {
		return "*"
	}
	return fmt.Sprint(1 + s.r.IntN(s.maxUID))
}

func (s *script) set() string {
	parts := make([]string, 1+s.r.IntN(3))
	for i := range parts {
		parts[i] = s.num()
		if s.r.IntN(2) == 0 {
			parts[i] += ":" + s.num()
		}
	}
	return strings.Join(parts, ",")
}

func (s *script) box() string {
	return s.pick("INBOX", "Work", "Sent", `"Drafts"`, "{4+}\r\nSent", "Nowhere")
}

func (s *script) items() string {
	all := []string{"FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "BODY.PEEK[]",
		"BODY.PEEK[HEADER]", "BODY[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[2.MIME]", "BODY.PEEK[]<3.20>",
		"BODY.PEEK[HEADER.FIELDS (From Subject)]", "BODY.PEEK[HEADER.FIELDS.NOT (From)]", "BODY.PEEK[HEADER.FIELDS ({4+}\r\nFrom)]"}
	n := 1 + s.r.IntN(4)
	chosen := make([]string, 0, n)
	for range n {
		chosen = append(chosen, all[s.r.IntN(len(all))])
	}
	// The provider answers a repeated item twice or not, as it likes.
	slices.Sort(chosen)
	return "(" + strings.Join(slices.Compact(chosen), " ") + ")"
}

func (s *script) uid() string { return s.pick("", "UID ") }

func (s *script) flags() string {
	return "(" + strings.Join([]string{s.pick(`\Seen`, `\Flagged`, `\Deleted`), s.pick("custom", `\Answered`)}, " ") + ")"
}

// next returns a command without tag and line end.
func (s *script) next() string {
	switch s.r.IntN(22) {
	case 0, 1:
		return s.pick("SELECT ", "EXAMINE ", "SELECT ") + s.box()
	case 2:
		return s.pick("CLOSE", "UNSELECT", "NOOP", "CHECK", "NAMESPACE", "EXPUNGE")
	case 3, 4, 5, 6, 7, 8:
		return s.uid() + "FETCH " + s.set() + " " + s.pick(s.items(), s.items(), s.items(), "ALL", "FAST", "FULL", "FLAGS")
	case 9, 10:
		return s.uid() + "STORE " + s.set() + " " + s.pick("+FLAGS ", "-FLAGS ", "FLAGS ", "+FLAGS.SILENT ") + s.flags()
	case 11:
		return s.uid() + "COPY " + s.set() + " " + s.box()
	case 12:
		if !s.full {
			return "NOOP"
		}
		return s.uid() + "MOVE " + s.set() + " " + s.box()
	case 13, 14:
		return s.uid() + "SEARCH " + s.pick("ALL", "SEEN", "SUBJECT number", "HEADER From {1+}\r\na", "OR SEEN FLAGGED", "NOT DELETED", "RETURN (COUNT) ALL")
	case 15:
		return "STATUS " + s.box() + " (MESSAGES UIDNEXT UNSEEN UIDVALIDITY)"
	case 16:
		return s.pick(`LIST "" "*"`, `LSUB "" "*"`, `LIST "" %`)
	case 17:
		return "APPEND " + s.box() + " " + s.flags() + ` "04-Mar-2026 05:06:07 +0000" ` + fmt.Sprintf("{%d+}\r\n%s", len(plainMail), plainMail)
	case 18:
		return "UID EXPUNGE " + s.set()
	case 19:
		return s.pick("CREATE new", "DELETE new", "RENAME new newer", "SUBSCRIBE Work", "UNSUBSCRIBE Work", "DELETE newer")
	case 20:
		return s.pick("FETCH", "FETCH 1", "FETCH x y", "UID FETCH 1 (", "STORE 1", "SEARCH", "FETCH 0 FLAGS", "XUNKNOWN a b")
	}
	return s.uid() + "FETCH 1:* (FLAGS)"
}

var flagList = regexp.MustCompile(`FLAGS \(([^)]*)\)`)

// normalise removes what the in-memory provider leaves to chance: the order of
// flags in a list.
func normalise(response string) string {
	return flagList.ReplaceAllStringFunc(response, func(m string) string {
		f := strings.Fields(m[len("FLAGS (") : len(m)-1])
		slices.Sort(f)
		return "FLAGS (" + strings.Join(f, " ") + ")"
	})
}

// fill puts plain messages into the mailboxes.
func fill(w *world) {
	for i := range 8 {
		msg := fmt.Sprintf("From: a%d@example.org\r\nSubject: number %d\r\n\r\nbody %d\r\n", i, i, i)
		w.deliver("INBOX", []byte(msg))
		w.deliver("Work", attachment(100*i))
	}
	w.deliver("Sent", corpus()["nested"])
}

// TestDifferentialPlain runs random commands on plain mailboxes, directly and
// through the relay: every response must be the same.
func TestDifferentialPlain(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			direct, relayed := newWorld(t, nil), newWorld(t, func(b *backend, _ *imapd.Options) { b.plain = true })
			fill(direct)
			fill(relayed)
			a, b := direct.direct(), relayed.login()
			// The numbers of tags agree from here on.
			s := newScript(seed)
			for i := range 150 {
				cmd := s.next()
				compare(t, i, cmd, a, b)
			}
		})
	}
}

func compare(t *testing.T, i int, cmd string, a, b *client) {
	t.Helper()
	gotA, tagA := a.do(cmd)
	gotB, tagB := b.do(cmd)
	for j := range gotA {
		gotA[j] = normalise(gotA[j])
	}
	for j := range gotB {
		gotB[j] = normalise(gotB[j])
	}
	if !slices.Equal(gotA, gotB) || tagA != tagB {
		t.Fatalf("command %d %q:\ndirect  %q %q\nrelayed %q %q", i, cmd, gotA, tagA, gotB, tagB)
	}
}

// TestDifferentialPipelined sends commands in batches without waiting.
func TestDifferentialPipelined(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			direct, relayed := newWorld(t, nil), newWorld(t, func(b *backend, _ *imapd.Options) { b.plain = true })
			fill(direct)
			fill(relayed)
			a, b := direct.direct(), relayed.login()
			s := newScript(seed + 100)
			for batch := range 10 {
				var text strings.Builder
				const size = 12
				for i := range size {
					fmt.Fprintf(&text, "B%d.%d %s\r\n", batch, i, s.next())
				}
				last := fmt.Sprintf("B%d.%d", batch, size-1)
				var got [2][]string
				for k, c := range []*client{a, b} {
					c.send(text.String())
					untagged, tagged := c.until(last)
					for _, u := range append(untagged, tagged) {
						got[k] = append(got[k], normalise(u))
					}
				}
				if !slices.Equal(got[0], got[1]) {
					t.Fatalf("batch %d:\n%s\ndirect  %q\nrelayed %q", batch, text.String(), got[0], got[1])
				}
			}
		})
	}
}
