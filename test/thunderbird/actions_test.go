package thunderbird

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

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
