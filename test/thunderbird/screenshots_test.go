package thunderbird

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// maxPicture is the size of a picture of the guide at most, in octets.
const maxPicture = 150 << 10

// TestScreenshots takes the pictures of docs/guide, on a display of its own. With
// CLOUDMLS_SCREENSHOTS they replace those in that folder (see ./screenshots);
// without, the test shows that they can be taken.
func TestScreenshots(t *testing.T) {
	w := newStack(t)
	alice := w.Configure("alice", "alice", stack.Alice)
	usualPorts(t, alice)
	alice.Register()
	alice.Run()
	erin := w.AddUser("erin", stack.Erin, stack.Frank)

	to := os.Getenv("CLOUDMLS_SCREENSHOTS")
	if to == "" {
		to = t.TempDir()
	}
	tb := startThunderbird(t, args{"xvfb": "1100x780"})
	call[any](t, tb, "fit", nil)
	tb.setUpByHand(t, alice, stack.Alice, func(page string) { tb.picture(t, to, "thunderbird-"+page) })
	tb.quiet(t)

	plain := letter{id: "<parcel@b.test>", from: "Parcel Service <frank@b.test>", to: stack.Alice, subject: "Your parcel is on its way", text: "It will be there tomorrow."}
	lab.Direct(t, stack.Alice).Append("INBOX", "()", plain.bytes())
	first := letter{id: "<lisbon@b.test>", from: "Erin <erin@b.test>", to: "Alice <alice@a.test>", subject: "Lisbon in May?",
		text: "Dear Alice,\r\n\r\nshall we book the small house by the river again? I have\r\nattached the plan of the flat.\r\n\r\nErin", file: []byte(strings.Repeat("a plan\n", 2000)), name: "plan.pdf"}
	second := letter{id: "<budget@b.test>", from: "Frank <frank@b.test>", to: "Alice <alice@a.test>", cc: "Erin <erin@b.test>", subject: "Budget for the summer party", text: "Here are the numbers."}
	submit(t, erin, stack.Frank).send(t, second.bytes(), stack.Alice, stack.Erin)
	submit(t, erin, stack.Erin).send(t, first.bytes(), stack.Alice)
	c := alice.Mail(stack.Alice)
	for _, l := range []letter{plain, first, second} {
		c.Arrives("INBOX", l.id)
		tb.find(t, stack.Alice, "inbox", l.id)
	}
	tb.read(t, stack.Alice, "inbox", plain.id)
	call[any](t, tb, "openFolder", args{"account": stack.Alice})
	tb.picture(t, to, "thunderbird-inbox")

	got := call[opened](t, tb, "read", args{"account": stack.Alice, "id": bare(first.id), "close": false})
	if got.Subject != first.subject {
		t.Errorf("the message is %q", got.Subject)
	}
	tb.picture(t, to, "thunderbird-message")

	call[any](t, tb, "compose", args{"account": stack.Alice, "mode": "replyAll", "folder": "inbox", "id": bare(second.id), "text": "Thanks, that is less than last year.\n", "action": "leave"})
	call[any](t, tb, "fit", args{"type": "msgcompose"})
	tb.picture(t, to, "thunderbird-compose")
	call[any](t, tb, "closeComposers", nil)
	tb.quiet(t)
}

// picture takes one of the whole display and makes it small.
func (tb *thunderbird) picture(t *testing.T, dir, name string) {
	t.Helper()
	raw, file := filepath.Join(tb.dir, "display.png"), filepath.Join(dir, name+".png")
	call[any](t, tb, "screenshot", args{"to": raw, "root": true})
	if out, err := exec.Command("convert", raw, "-strip", "+dither", "-colors", "256", "-define", "png:compression-level=9", file).CombinedOutput(); err != nil {
		t.Fatalf("convert: %v\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxPicture || info.Size() < 5<<10 {
		t.Errorf("%s has %d octets", name, info.Size())
	}
}

// usualPorts gives a gateway the ports of the documentation if they are free, so
// that the pictures show them.
func usualPorts(t *testing.T, g *stack.Gateway) {
	t.Helper()
	text, err := os.ReadFile(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	for addr, usual := range map[*string]string{&g.IMAP: "127.0.0.1:1993", &g.SMTP: "127.0.0.1:1465"} {
		l, err := net.Listen("tcp", usual)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.Replace(string(text), fmt.Sprintf("%q", *addr), fmt.Sprintf("%q", usual), 1))
		*addr = usual
	}
	if err := os.WriteFile(g.Config, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
