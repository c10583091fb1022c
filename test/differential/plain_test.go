package differential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// TestPlainMail runs random sequences directly and through the program.
func TestPlainMail(t *testing.T) {
	u := newUsers(t, "p", 8)
	var addresses []string
	for _, p := range u.pairs {
		addresses = append(addresses, p.relayed)
	}
	g := stack.New(t, lab).AddUser("differential", addresses...)
	trash := trashFolder(t)
	u.run(t, *sequences, func(seed uint64, p pair) error {
		return compare(u, p, seed, false, trash, func() (*conn, error) {
			if *control {
				return u.signIn(p.relayed)
			}
			c, err := dialTLS(g.IMAP, g.CA, "localhost")
			if err != nil {
				return nil, err
			}
			return c.signIn(p.relayed, g.Password, u.validity)
		})
	})
}

// trashFolder returns a folder on the mailboxes' file system.
func trashFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(lab.Dir, "trash")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// compare runs one sequence; an error says where the sides differ.
func compare(u *users, p pair, seed uint64, uploads bool, trash string, relay func() (*conn, error)) error {
	mine, err := os.MkdirTemp(trash, "")
	if err != nil {
		return err
	}
	if err := u.reset(p, mine); err != nil {
		return err
	}
	steps := newScript(seed, uploads).sequence()
	var main, other [2]*conn
	err = both(func(side int) error {
		var err error
		address := []string{p.direct, p.relayed}[side]
		if other[side], err = u.signIn(address); err != nil {
			return err
		}
		if _, _, err = other[side].do("SELECT INBOX"); err != nil {
			return err
		}
		if side == 0 {
			main[side], err = u.signIn(address)
		} else {
			main[side], err = relay()
		}
		return err
	})
	defer func() {
		for _, c := range append(main[:], other[:]...) {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	if err != nil {
		return err
	}
	aborts := u.aborts(p)
	var history []string
	for i, st := range steps {
		history = append(history, st.String())
		err := compareStep(st, main, other)
		if errors.Is(err, errProviderEnded) || err != nil && u.aborts(p) > aborts {
			u.ended.Add(1)
			return nil
		}
		if err != nil {
			return fmt.Errorf("step %d of %d: %w\nsteps so far:\n%s", i+1, len(steps), err, strings.Join(history, "\n"))
		}
	}
	return both(func(side int) error { return other[side].logout() })
}

// errProviderEnded: this Dovecot aborts on some rare commands, or does not answer
// them; there is nothing to compare behind that.
var errProviderEnded = errors.New("the provider ended the connections")

// ended counts the sides whose connection ended.
func ended(err error) (n int) {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			if errors.Is(e, io.EOF) || errors.Is(e, io.ErrUnexpectedEOF) || errors.Is(e, syscall.EPIPE) || errors.Is(e, syscall.ECONNRESET) {
				n++
			}
		}
	}
	return n
}

// compareStep runs one step on both sides.
func compareStep(st *step, main, other [2]*conn) error {
	var got [2][]string
	var silent [2]bool
	err := both(func(side int) (err error) {
		got[side], err = runStep(st, main[side], other[side], side)
		silent[side] = errors.Is(err, os.ErrDeadlineExceeded)
		return err
	})
	// silent[0]: the provider by itself owes an answer, as it does now and then
	// where it refuses a command before its literal.
	if err != nil && (ended(err) == 2 || silent[0]) {
		return errProviderEnded
	}
	if err != nil {
		return fmt.Errorf("%w\ndirect:\n%s\nrelayed:\n%s", err, show(got[0]), show(got[1]))
	}
	if got[1], err = takeRefused(st, got[1]); err != nil {
		return fmt.Errorf("%w\nrelayed:\n%s", err, show(got[1]))
	}
	for i, l := range got[0] {
		got[0][i] = normalise(likeGateway(l))
	}
	for i, l := range got[1] {
		if *control {
			l = likeGateway(l)
		}
		got[1][i] = normalise(l)
	}
	a, b := withoutHighest(st, got[0]), withoutHighest(st, got[1])
	if st.refusesLiteral(a) {
		a, b = withoutRequests(a), withoutRequests(b)
	}
	switch {
	case st.wild:
		a, b = anyOrder(a), anyOrder(b)
	case len(st.burst) > 1:
		a, b = taggedApart(a), taggedApart(b)
	}
	if !slices.Equal(a, b) {
		return fmt.Errorf("different answers\n%s\ndirect:\n%s\nrelayed:\n%s", firstDifference(a, b), show(got[0]), show(got[1]))
	}
	return nil
}

// refusesLiteral tells whether the provider refused a command that has a
// synchronising literal. The gateway asks for literals by itself, so it asks for
// some that the provider does not want.
func (s *step) refusesLiteral(got []string) bool {
	return slices.ContainsFunc(s.burst, func(c *command) bool {
		return len(c.pieces) > 1 && !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, c.tag+" OK") })
	})
}

func withoutRequests(got []string) []string {
	return slices.DeleteFunc(slices.Clone(got), func(l string) bool { return strings.HasPrefix(l, "+ OK") })
}

func firstDifference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x == y {
			continue
		}
		k := 0
		for k < min(len(x), len(y)) && x[k] == y[k] {
			k++
		}
		k = max(k-60, 0)
		return fmt.Sprintf("first:\n   %.400q\n   %.400q", x[k:], y[k:])
	}
	return ""
}

// takeRefused checks the answers to the commands that the gateway refuses, and
// takes them out.
func takeRefused(st *step, got []string) ([]string, error) {
	for _, c := range st.burst {
		if !c.refused || *control {
			continue
		}
		i := slices.IndexFunc(got, func(l string) bool { return strings.HasPrefix(l, c.tag+" ") })
		if i < 0 || !strings.HasPrefix(got[i], c.tag+" NO [CANNOT] ") {
			return got, fmt.Errorf("%q is not refused with NO [CANNOT]", c)
		}
		got = slices.Delete(got, i, i+1)
	}
	return got, nil
}

func show(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "   %.160q\n", l)
	}
	return b.String()
}

// runStep runs one step on one side: 0 is direct, 1 relayed.
func runStep(st *step, main, other *conn, side int) ([]string, error) {
	var got []string
	if st.idle {
		var err error
		if got, err = main.idleBegin(st.cuts); err != nil {
			return got, err
		}
	}
	for _, cmd := range st.other {
		if _, _, err := other.do(cmd); err != nil {
			return got, fmt.Errorf("the other client: %w", err)
		}
	}
	switch {
	case st.idle:
		rest, err := main.idleEnd(st.wait, st.cuts)
		if err != nil {
			return append(got, rest...), err
		}
		// The provider may not have noticed yet. What it tells now belongs to the
		// step as well, before the two tagged responses.
		untagged, tagged, err := main.do("NOOP")
		last := len(rest) - 1
		return slices.Concat(got, rest[:last], untagged, rest[last:], []string{tagged}), err
	case len(st.burst) > 0:
		return main.run(st.onSide(side == 0 || *control))
	}
	return got, nil
}
