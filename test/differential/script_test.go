package differential

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// command is one command of the client: pieces with a continuation request
// between each and the next (synchronising literals).
type command struct {
	tag    string
	name   string
	pieces []string
	// refused: the gateway does not offer this; it answers NO [CANNOT] itself,
	// and the provider is not asked.
	refused bool
}

func (c *command) String() string { return strings.Join(c.pieces, "⏎+ ") }

// step is what happens between two moments at which the client has read every
// answer.
type step struct {
	// burst is sent without waiting for answers; cuts are the sizes of the
	// segments that its octets are sent in, over and over.
	burst []*command
	cuts  []int
	// wild: the burst holds commands which the provider may execute side by
	// side, so that when they reach it decides about the order of the answers
	// (RFC 9051 section 5.5).
	wild bool
	// idle runs IDLE; other happens meanwhile, and where wait is set the client
	// reads an untagged response with that word before it says DONE.
	idle bool
	wait string
	// other are commands of another client of the same mailbox, each waited
	// for.
	other []string
}

func (s *step) String() string {
	var b strings.Builder
	switch {
	case s.idle:
		fmt.Fprintf(&b, "IDLE (wait %q) while another client says %q", s.wait, s.other)
	case s.other != nil:
		fmt.Fprintf(&b, "another client says %q", s.other)
	default:
		fmt.Fprintf(&b, "burst, wild %v, segments of %v:", s.wild, s.cuts)
		for _, c := range s.burst {
			fmt.Fprintf(&b, "\n  %q", c)
		}
	}
	return b.String()
}

// script makes random sequences. The same seed gives the same sequence.
type script struct {
	r    *rand.Rand
	tags int
	// uploads: APPEND stores what it is given (it does not through the program,
	// which seals uploads).
	uploads bool
	// selected is a guess that makes commands meaningful more often.
	selected string
	// byUID: no message numbers, which shift while other commands run.
	byUID bool
}

func newScript(seed uint64, uploads bool) *script {
	return &script{r: rand.New(rand.NewPCG(seed, 0x1a9)), uploads: uploads}
}

// sequence returns 10 to 40 commands, and the LOGOUT.
func (s *script) sequence() []*step {
	var steps []*step
	total := 10 + s.r.IntN(31)
	first := &step{burst: []*command{s.make("SELECT", s.choose("INBOX", "Work", "INBOX"))}, cuts: []int{1 << 20}}
	s.selected = "INBOX"
	steps = append(steps, first)
	for n := 1; n < total; {
		switch k := s.r.IntN(20); {
		case k == 0:
			steps = append(steps, s.idleSteps()...)
			n += 2
		case k <= 2:
			// The NOOP: where the gateway asks the provider something of its own
			// before it passes a command on, it is that which brings the news.
			steps = append(steps, &step{other: s.otherCommands()}, &step{burst: []*command{s.make("NOOP")}, cuts: s.segments()})
		default:
			more := s.burst(k)
			for _, b := range more {
				n += len(b.burst)
			}
			steps = append(steps, more...)
		}
	}
	// In one segment: this Dovecot leaves at the CR, and an LF that comes later
	// makes TCP throw its farewell away.
	return append(steps, &step{burst: []*command{s.make("LOGOUT")}, cuts: []int{1 << 20}})
}

// burst returns one command, or several that are sent without waiting. What the
// provider has to tell of other clients comes before; a wild burst is followed by
// a look at what it did.
func (s *script) burst(k int) []*step {
	one := func(c *command, wild bool) *step {
		return &step{burst: []*command{c}, cuts: s.segments(), wild: wild}
	}
	b := &step{cuts: s.segments()}
	switch {
	case k < 14:
		return []*step{one(s.next(), false)}
	case k < 17:
		for range 2 + s.r.IntN(7) {
			b.burst = append(b.burst, s.quiet())
		}
		return []*step{one(s.make("NOOP"), false), b}
	}
	b.wild, s.byUID = true, true
	for n := 1 + s.r.IntN(7); len(b.burst) < n; {
		if c := s.next(); !c.renumbers() {
			b.burst = append(b.burst, c)
		}
	}
	b.burst = append(b.burst, s.next())
	s.byUID = false
	return []*step{one(s.make("NOOP"), false), b, one(s.make("NOOP"), true), one(s.make("FETCH", "1:*", "(UID FLAGS)"), false)}
}

// segments returns the sizes of the pieces that reach the server one by one.
func (s *script) segments() []int {
	if s.r.IntN(2) == 0 {
		return []int{1 << 20}
	}
	cuts := make([]int, 1+s.r.IntN(4))
	for i := range cuts {
		cuts[i] = 1 + s.r.IntN([]int{3, 17, 200}[s.r.IntN(3)])
	}
	return cuts
}

func (s *script) chance(n int) bool { return s.r.IntN(n) == 0 }

func (s *script) choose(from ...string) string { return from[s.r.IntN(len(from))] }

// some returns at least one of the words, in their order, none twice.
func (s *script) some(from ...string) []string {
	var out []string
	for _, w := range from {
		if s.chance(3) {
			out = append(out, w)
		}
	}
	if out == nil {
		out = []string{s.choose(from...)}
	}
	return out
}

func (s *script) list(from ...string) string { return "(" + strings.Join(s.some(from...), " ") + ")" }

// oddCase changes the case of some letters.
func (s *script) oddCase(word string) string {
	switch s.r.IntN(4) {
	case 0:
		return strings.ToLower(word)
	case 1:
		b := []byte(strings.ToLower(word))
		for i := range b {
			if s.chance(2) && b[i] >= 'a' && b[i] <= 'z' {
				b[i] -= 'a' - 'A'
			}
		}
		return string(b)
	}
	return word
}

// lit marks a literal that its command is split at: the octets behind a
// synchronising announcement wait for the server.
const syncMark = "\x00\x01\x00"

// make returns a command with a tag. Arguments may hold literals made by
// literal.
func (s *script) make(name string, args ...string) *command {
	s.tags++
	tag := s.choose("a", "A", "x.", "Tag-", "7") + fmt.Sprint(s.tags)
	text := strings.Join(append([]string{tag + " " + s.oddCase(name)}, args...), " ") + "\r\n"
	return &command{tag: tag, name: name, pieces: strings.Split(text, syncMark)}
}

// renumbers tells whether a command may change which messages there are: what
// the commands behind it see is open then.
func (c *command) renumbers() bool {
	switch c.name {
	case "EXPUNGE", "UID EXPUNGE", "MOVE", "UID MOVE", "COPY", "UID COPY", "APPEND", "CLOSE":
		return true
	}
	return false
}

func (s *script) refusedCommand(name string, args ...string) *command {
	c := s.make(name, args...)
	c.refused = true
	return c
}

// literal returns text as a literal of one of the kinds.
func (s *script) literal(text string) string {
	if s.chance(2) {
		return fmt.Sprintf("{%d}\r\n%s%s", len(text), syncMark, text)
	}
	return fmt.Sprintf("{%d+}\r\n%s", len(text), text) // LITERAL+, and LITERAL- up to 4096
}

// syncLiteral is for SETMETADATA: where this Dovecot refuses that, it reads a
// literal that was not waited for as commands.
func (s *script) syncLiteral(text string) string {
	return fmt.Sprintf("{%d}\r\n%s%s", len(text), syncMark, text)
}

// astring returns text in one of its forms.
func (s *script) astring(text string) string {
	atom := text != "" && !strings.ContainsAny(text, "(){ %*\"\\")
	switch k := s.r.IntN(6); {
	case k == 0:
		return s.literal(text)
	case k <= 2 && atom:
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// mailboxes of the prepared users, and some that are not there.
var (
	knownBoxes = []string{"INBOX", "Work", "Work/Deep", "Entw&APw-rfe", "Big", "Empty", `odd "name" \ here`, "Sent", "Trash"}
	otherBoxes = []string{"Nowhere", "new", "new/sub", "&ZeVnLIqe-", "Work/", "&bad", "a*b", "Entw\xc3\xbcrfe", ""}
)

func (s *script) boxName() string {
	switch s.r.IntN(8) {
	case 0:
		return s.choose(otherBoxes...)
	case 1:
		return s.oddCase("INBOX")
	case 2, 3:
		return s.selected
	}
	return s.choose(knownBoxes...)
}

func (s *script) box() string { return s.astring(s.boxName()) }

func (s *script) number() string {
	switch s.r.IntN(10) {
	case 0:
		return "*"
	case 1:
		return fmt.Sprint(s.r.IntN(60))
	}
	return fmt.Sprint(1 + s.r.IntN(16))
}

func (s *script) set() string {
	switch s.r.IntN(10) {
	case 0:
		return "1:*"
	case 1:
		return "$"
	case 2:
		return s.choose("0", "1,", "1:", "a", "4294967296", "1::2", "999", "*:*", "1:4294967295")
	}
	parts := make([]string, 1+s.r.IntN(3))
	for i := range parts {
		parts[i] = s.number()
		if s.chance(2) {
			parts[i] += ":" + s.number()
		}
	}
	return strings.Join(parts, ",")
}

func (s *script) uid(name string) string {
	if s.chance(2) && !s.byUID {
		return name
	}
	return "UID " + name
}

func (s *script) modseq() string {
	return s.choose("1", "3", "8", "20", "40", "60", "999999", "0", "18446744073709551615")
}

// onSide returns the step without what the provider is not asked: the direct
// side is spared the commands that the gateway refuses.
func (s *step) onSide(direct bool) *step {
	if !direct {
		return s
	}
	kept := *s
	kept.burst = nil
	for _, c := range s.burst {
		if !c.refused {
			kept.burst = append(kept.burst, c)
		}
	}
	return &kept
}
