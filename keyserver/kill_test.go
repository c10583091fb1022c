package keyserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

const killedStore = "KEYSERVER_TEST_STORE"

// TestMain lets the test binary be the server that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv(killedStore); path != "" {
		if err := serveUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serveUntilKilled(path string) error {
	store, err := boltstore.Open(path)
	if err != nil {
		return err
	}
	s, err := keyserver.New(keyserver.Options{
		Store: store, Origin: keyservertest.Origin, TokenKey: keyservertest.TokenKey(), Pepper: keyservertest.Pepper(),
		Limits: keyservertest.Unlimited(),
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + ln.Addr().String())
	go func() { // the parent's end, if it dies first
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return keyserver.HTTPServer(s, nil).Serve(ln)
}

// startVictim runs the server in a process of its own.
func startVictim(t *testing.T, path string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedStore+"="+path)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("server process: %v", err)
	}
	return cmd, strings.TrimSpace(line)
}

// Promise 5: a server killed in the middle of its work has everything that it
// acknowledged, and nothing by halves.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyserver.db")
	cmd, url := startVictim(t, path)
	c, err := keyclient.New(keyclient.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Server: &keyservertest.Server{Origin: keyservertest.Origin}, t: t, clock: newClock(), c: c}
	bob := w.person("bob")

	const writers = 4
	acknowledged := make([]uint64, writers)
	people := make([]*person, writers)
	groups := make([]*group, writers)
	for i := range people {
		people[i], groups[i] = w.person(fmt.Sprint("writer", i)), newGroup()
	}
	enough := make(chan struct{}, writers*1000)
	var wg sync.WaitGroup
	for i := range people {
		wg.Go(func() {
			for n := uint64(1); ; n++ {
				_, err := people[i].tx(step(people[i], groups[i], n, bob.account))
				if err != nil {
					if !errors.Is(err, keyclient.ErrUnavailable) {
						t.Errorf("writer %d: %v", i, err)
					}
					return
				}
				acknowledged[i] = n
				select {
				case enough <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 60 {
		<-enough
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	wg.Wait()
	if err := cmd.Wait(); err == nil {
		t.Fatal("the server ended by itself")
	}
	checkSurvivors(t, path, people, groups, acknowledged, bob)
}

// step n writes two objects, opens epoch n, delivers to two inboxes and
// acknowledges all but the last Commit of the own one.
func step(p *person, g *group, n uint64, other keyapi.Account) keyapi.Tx {
	c := g.commit(p.account, fmt.Sprint("commit ", n), p.account, other)
	c.Epoch, c.Create = n-1, n == 1
	c.Token = g.token(n - 1)
	c.TokenHash = sha256Of(g.token(n))
	tx := keyapi.Tx{
		Put: []keyapi.Object{put("group", n, fmt.Sprint("state ", n)), put(fmt.Sprint("epoch ", n), 1, fmt.Sprint("record ", n))}, Commit: c,
	}
	if n > 1 {
		tx.Ack = []keyapi.AckRequestFor{{Account: p.account, Seq: n - 1}}
	}
	return tx
}

func checkSurvivors(t *testing.T, path string, people []*person, groups []*group, acknowledged []uint64, bob *person) {
	t.Helper()
	s := keyservertest.NewServer(t, keyservertest.Options{Path: path})
	c := s.Client()
	commits := map[string]uint64{}
	bob.w = &world{Server: s, t: t, clock: newClock(), c: c}
	for after := uint64(0); ; {
		page := bob.inbox(after)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			if commits[string(d.Group)]++; commits[string(d.Group)] != d.Epoch {
				t.Fatalf("inbox: epoch %d where %d was due", d.Epoch, commits[string(d.Group)])
			}
			after = d.Seq
		}
	}
	for i, p := range people {
		p.w = bob.w
		n, data := p.object(objectID("group"))
		if n < acknowledged[i] || n > acknowledged[i]+1 || string(data) != fmt.Sprint("state ", n) {
			t.Errorf("writer %d: state %d %q, acknowledged %d", i, n, data, acknowledged[i])
		}
		index, err := c.ObjectIndex(t.Context(), p.token())
		if err != nil || uint64(len(index.Objects)) != n+1 {
			t.Errorf("writer %d: %d objects at step %d, %v", i, len(index.Objects), n, err)
		}
		in, err := c.Instance(t.Context(), p.token(), groups[i].conversation)
		if err != nil || in.Epoch != n || commits[string(groups[i].id)] != n {
			t.Errorf("writer %d: epoch %+v, %d Commits delivered, state %d, %v", i, in, commits[string(groups[i].id)], n, err)
		}
		if own := p.inbox(0); len(own) != 1 || own[0].Epoch != n {
			t.Errorf("writer %d: %d messages wait, want the last Commit", i, len(own))
		}
		// What was under way can be sent again, carried out or not.
		if _, err := p.tx(step(p, groups[i], acknowledged[i]+1, bob.account)); err != nil {
			t.Errorf("writer %d: last transaction sent again: %v", i, err)
		}
	}
}
