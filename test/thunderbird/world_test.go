package thunderbird

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// world is a stack with one Thunderbird, which has Alice's account at one
// provider and Erin's at the other, each behind a gateway of its own.
type world struct {
	*stack.Stack
	tb *thunderbird
	// alice and erin are the gateways of Thunderbird's accounts; erin's also
	// serves Frank. bob and carol are gateways without Thunderbird.
	alice, erin, bob, carol *stack.Gateway

	source *rand.Rand
}

const (
	// heidi has no account at the key server: mail to her leaves in clear.
	heidi = "heidi@b.test"
	grace = "grace@b.test"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := newStack(t)
	w.alice, w.erin = w.AddUser("alice", stack.Alice), w.AddUser("erin", stack.Erin, stack.Frank)
	w.bob, w.carol = w.AddUser("bob", stack.Bob), w.AddUser("carol", stack.Carol)
	return w
}

// newStack is a world without people. If the test fails, the ends of all logs
// are printed.
func newStack(t *testing.T) *world {
	t.Helper()
	w := &world{Stack: stack.New(t, lab), source: rand.New(rand.NewPCG(11, 12))}
	for _, address := range []string{stack.Alice, stack.Bob, stack.Carol, stack.Dave, stack.Erin, stack.Frank, grace, heidi} {
		empty(t, address) // an earlier test's key server is gone, and with it the keys to its mail
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for name, g := range w.Gateways {
			lines := strings.SplitAfter(g.LogText(), "\n")
			t.Logf("the gateway of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-15):], ""))
		}
	})
	return w
}

// canary begins every word that must not lie readable anywhere outside
// Thunderbird.
const canary = "CANARY-"

// secret is such a word.
func (w *world) secret() string { return fmt.Sprintf("%s%016x", canary, w.source.Uint64()) }

// unreadable searches the providers, the gateways and the key server for
// secrets; afterwards a control shows that the search would have found one.
func (w *world) unreadable(t *testing.T) {
	t.Helper()
	for _, files := range stack.FindCanaries(t, []string{canary}, w.folders()...) {
		t.Errorf("secrets lie readable in %v", files)
	}
	control := fmt.Sprintf("CONTROL-%016x", w.source.Uint64())
	l := letter{id: "<control@a.test>", from: stack.Dave, to: stack.Dave, subject: control, text: "x"}
	lab.Direct(t, stack.Dave).Append("INBOX", "()", l.bytes())
	if found := stack.FindCanaries(t, []string{control}, lab.Folders()...); len(found[control]) == 0 {
		t.Error("the search does not find a word that lies open")
	}
}

// folders are all places of the providers, the gateways and the key server.
func (w *world) folders() []string { return append([]string{w.Dir}, lab.Folders()...) }

// account is how a user sets Thunderbird up with the settings that the gateway prints.
func account(t *testing.T, g *stack.Gateway, address string) args {
	t.Helper()
	name, _, _ := strings.Cut(address, "@")
	server := func(addr string) args {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		return args{"host": "localhost", "port": n, "security": "tls", "user": address, "password": g.Password}
	}
	return args{"name": strings.ToUpper(name[:1]) + name[1:], "email": address, "imap": server(g.IMAP), "smtp": server(g.SMTP)}
}

// authority is the gateway's certificate, as the user imports it.
func authority(t *testing.T, g *stack.Gateway) string {
	t.Helper()
	b, err := os.ReadFile(g.CA)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// setUp adds an account to Thunderbird: certificate, settings, log-in, folders.
func (tb *thunderbird) setUp(t *testing.T, g *stack.Gateway, address string) {
	t.Helper()
	call[any](t, tb, "importCA", args{"pem": authority(t, g)})
	call[any](t, tb, "addAccount", account(t, g, address))
	call[any](t, tb, "login", args{"account": address})
	tb.begin(t, address)
}

// setUpByHand is setUp as a user does it: the certificate manager's import with
// "identify websites" ticked, then the account hub, page by page. seen is called
// with the name of each page when it is filled in.
func (tb *thunderbird) setUpByHand(t *testing.T, g *stack.Gateway, address string, seen func(page string)) {
	t.Helper()
	type page struct{ Told []string }
	a := account(t, g, address)
	a["password"] = g.Password
	if asked := call[struct{ Asked string }](t, tb, "importCAByHand", args{"path": g.CA}).Asked; !strings.Contains(asked, "CloudMLS") {
		t.Errorf("the question about the certificate does not name its maker: %q", asked)
	}
	seen("certificate")
	call[any](t, tb, "importCAAccept", nil)
	call[page](t, tb, "hubIncoming", a)
	seen("account-incoming")
	if told := call[page](t, tb, "hubOutgoing", a).Told; !slices.Contains(told, hubTested) {
		t.Errorf("the account hub's test of the settings says %q, want %q", told, hubTested)
	}
	seen("account-outgoing")
	call[page](t, tb, "hubPassword", a)
	seen("account-password")
	call[page](t, tb, "hubFinish", a)
	tb.begin(t, address)
}

// hubTested is what the account hub says when it has reached both servers.
const hubTested = "The following settings were found by probing the given server:"

// begin shows an account's inbox, as a user does first.
func (tb *thunderbird) begin(t *testing.T, address string) {
	t.Helper()
	tb.folders(t, address)
	call[any](t, tb, "sync", args{"account": address})
	call[any](t, tb, "openFolder", args{"account": address})
}

// folder is one mailbox as Thunderbird lists it.
type folder struct {
	Path       string
	SpecialUse []string
	Messages   int
}

func (tb *thunderbird) folders(t *testing.T, address string) []folder {
	t.Helper()
	return call[[]folder](t, tb, "folders", args{"account": address})
}

// message is one line of Thunderbird's message list.
type message struct {
	UID                         int
	Subject, From, To, Keywords string
	MessageID                   string
	Size                        int
	Flags, References           []string
}

// list is what Thunderbird has in a folder, after asking the server.
func (tb *thunderbird) list(t *testing.T, address, folder string) []message {
	t.Helper()
	call[any](t, tb, "sync", args{"account": address, "folder": folder})
	return call[[]message](t, tb, "list", args{"account": address, "folder": folder})
}

// find is the message with an id in a folder, which must be there exactly once.
func (tb *thunderbird) find(t *testing.T, address, folder, messageID string) message {
	t.Helper()
	var found []message
	all := tb.list(t, address, folder)
	for _, m := range all {
		if m.MessageID == bare(messageID) {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s is %d times in %s's %s, want once; there are %d messages\n%s", messageID, len(found), address, folder, len(all), tb.trouble(t))
	}
	return found[0]
}

// delivered waits until a message is at the provider, and has Thunderbird look.
func (w *world) delivered(t *testing.T, address, messageID string) {
	t.Helper()
	g := map[string]*stack.Gateway{stack.Alice: w.alice, stack.Erin: w.erin}[address]
	g.Mail(address).Arrives("INBOX", "<"+bare(messageID)+">")
	w.tb.find(t, address, "inbox", messageID)
}

// arrives waits until a message is shown in a folder, without asking the server.
func (tb *thunderbird) arrives(t *testing.T, address, messageID string, since int) event {
	t.Helper()
	return call[event](t, tb, "waitNew", args{"account": address, "messageId": bare(messageID), "since": since, "timeout": stack.Deadline.Milliseconds()})
}

// mark is the number of the last event so far.
func (tb *thunderbird) mark(t *testing.T) int {
	t.Helper()
	return call[struct{ Seq int }](t, tb, "mark", nil).Seq
}

// opened is what the window shows of an opened message.
type opened struct {
	message
	ShownSubject, ShownFrom, ShownTo string
	Body                             string
	ShownNotifications               []string
	Attachments                      []struct {
		Name, ContentType, SHA256 string
		Size                      int
	}
}

func (tb *thunderbird) read(t *testing.T, address, folder, messageID string) opened {
	t.Helper()
	return call[opened](t, tb, "read", args{"account": address, "folder": folder, "id": bare(messageID)})
}

// composed is what became of a message that was written.
type composed struct {
	OK        bool
	MessageID string
	Reason    string
	Shown     []event
	MS        int
}

// compose drives the compose window and demands that it ends without a word.
func (tb *thunderbird) compose(t *testing.T, a args) composed {
	t.Helper()
	r := call[composed](t, tb, "compose", a)
	if !r.OK || len(r.Shown) > 0 {
		t.Fatalf("compose %v: %+v\n%s", a, r, tb.trouble(t))
	}
	return r
}

func bare(messageID string) string { return strings.Trim(messageID, "<>") }
