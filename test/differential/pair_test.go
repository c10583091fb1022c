package differential

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// pair is two users of the provider with identical mailboxes.
type pair struct {
	direct, relayed string
}

// users are the provider's users of one test.
type users struct {
	provider stack.Provider
	template string // a folder with the prepared user's files
	validity map[string]string
	pairs    []pair
	// ended counts the sequences that the provider itself cut short.
	ended atomic.Int64
}

// newUsers adds users to the lab and prepares the mailboxes.
func newUsers(t *testing.T, prefix string, pairs int) *users {
	t.Helper()
	lab.Need(t)
	u := &users{provider: lab.Of(t, stack.Alice), validity: map[string]string{}}
	names := []string{prefix + "t"}
	for i := range pairs {
		p := pair{fmt.Sprintf("%sd%d@a.test", prefix, i), fmt.Sprintf("%sg%d@a.test", prefix, i)}
		u.pairs = append(u.pairs, p)
		names = append(names, local(p.direct), local(p.relayed))
	}
	f, err := os.OpenFile(filepath.Join(lab.Dir, "a", "users"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if _, err := fmt.Fprintf(f, "%s@a.test:secret-%s::::::\n", n, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := u.signIn(names[0] + "@a.test")
	for until := time.Now().Add(deadline); err != nil && time.Now().Before(until); {
		time.Sleep(50 * time.Millisecond) // Dovecot looks at its list of users once a second
		c, err = u.signIn(names[0] + "@a.test")
	}
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, c)
	number := regexp.MustCompile(`UIDVALIDITY (\d+)`)
	for _, box := range knownBoxes {
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(box) + `"`
		m := number.FindStringSubmatch(strings.Join(c.ok(t, "STATUS "+quoted+" (UIDVALIDITY)"), ""))
		if m == nil {
			t.Fatalf("%s has no UIDVALIDITY", box)
		}
		u.validity[box] = m[1]
	}
	if err := c.logout(); err != nil {
		t.Fatal(err)
	}
	u.template = filepath.Join(u.provider.Mail, names[0])
	return u
}

func local(address string) string {
	name, _, _ := strings.Cut(address, "@")
	return name
}

// signIn connects to the provider itself.
func (u *users) signIn(address string) (*conn, error) {
	p := u.provider
	c, err := dialTLS(net.JoinHostPort(p.Host, fmt.Sprint(p.IMAP.TLSPort)), lab.CA, p.IMAP.TLSName)
	if err != nil {
		return nil, err
	}
	return c.signIn(address, stack.Password(address), u.validity)
}

func (c *conn) signIn(user, password string, validity map[string]string) (*conn, error) {
	c.validity = validity
	_, tagged, err := c.do("LOGIN " + user + " " + password)
	if err == nil && !strings.HasPrefix(tagged, "OK") {
		err = fmt.Errorf("LOGIN: %s", tagged)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// logout ends the session in order; when it returns the server has closed.
func (c *conn) logout() error {
	if _, _, err := c.do("LOGOUT"); err != nil {
		return errors.Join(err, c.Close())
	}
	return c.Close()
}

// reset gives both users of a pair the prepared mailboxes again.
func (u *users) reset(p pair, trash string) error {
	for _, address := range []string{p.direct, p.relayed} {
		home := filepath.Join(u.provider.Mail, local(address))
		if err := os.Rename(home, filepath.Join(trash, filepath.Base(home))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := copyTree(u.template, home); err != nil {
			return fmt.Errorf("give %s the prepared mailboxes: %w", address, err)
		}
	}
	return nil
}

// both runs f for the direct and the relayed side at the same time.
func both(f func(side int) error) error {
	var errs [2]error
	var wg sync.WaitGroup
	for side := range 2 {
		wg.Go(func() { errs[side] = f(side) })
	}
	wg.Wait()
	return errors.Join(errs[0], errs[1])
}

// run runs tests of a number of seeds on the pairs, each pair for one at a time.
func (u *users) run(t *testing.T, count int, one func(seed uint64, p pair) error) {
	t.Helper()
	seeds := make([]uint64, 0, count)
	for i := range count {
		seeds = append(seeds, *firstSeed+uint64(i))
	}
	if *onlySeed != 0 {
		seeds = []uint64{*onlySeed}
	}
	work := make(chan uint64)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := 0; i < len(u.pairs); i += 2 {
		wg.Go(func() {
			for n := 0; ; n++ {
				seed, ok := <-work
				if !ok {
					return
				}
				// Two pairs in turn: the provider may still tidy up.
				if err := one(seed, u.pairs[i+n%2]); err != nil {
					t.Errorf("sequence with seed %d (again: go test ./test/differential/ -run '%s' -seed %d): %v", seed, t.Name(), seed, err)
					cancel()
				}
			}
		})
	}
feed:
	for _, seed := range seeds {
		select {
		case work <- seed:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	if n := u.ended.Load(); n > int64(len(seeds)/20) {
		t.Errorf("the provider ended %d of %d sequences", n, len(seeds))
	} else if n > 0 {
		t.Logf("the provider ended %d of %d sequences on both sides", n, len(seeds))
	}
}

// aborts counts how often the provider's process of one of the users has
// aborted, as its log says.
func (u *users) aborts(p pair) (n int) {
	for _, file := range u.provider.Logs {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			if (strings.Contains(l, "("+p.direct+")") || strings.Contains(l, "("+p.relayed+")")) && strings.Contains(l, "Panic: ") {
				n++
			}
		}
	}
	return n
}
