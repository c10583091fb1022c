package imapd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/imapd/wire"
	"github.com/cloudmls/gateway/internal/mime"
)

// lab is what lab.json of the mail lab (test/maillab) says. These tests run
// when CLOUDMLS_MAILLAB names that file.
type lab struct {
	Providers map[string]struct {
		IMAP struct {
			Port int `json:"starttls_port"`
		} `json:"imap"`
	} `json:"providers"`
}

func openLab(t *testing.T) string {
	path := os.Getenv("CLOUDMLS_MAILLAB")
	if path == "" {
		t.Skip("CLOUDMLS_MAILLAB is not set")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var l lab
	if err := json.Unmarshal(b, &l); err != nil {
		t.Fatal(err)
	}
	p := l.Providers["a"].IMAP
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(p.Port))
}

// labWorld is a relay before a user of the lab.
func labWorld(t *testing.T, addr, name string, tune func(*backend)) *world {
	b := &backend{provider: addr, index: &imapd.MemoryIndex{}, plain: true}
	b.upstream = &imapd.Upstream{Username: name + "@a.test",
		Password: func(context.Context) (string, error) { return "secret-" + name, nil }}
	if tune != nil {
		tune(b)
	}
	w := &world{t: t, provider: addr, backend: b}
	w.start(nil)
	return w
}

// labDirect signs in at the lab itself.
func labDirect(t *testing.T, addr, name string) *client {
	c := dial(t, addr)
	c.line()
	c.ok(fmt.Sprintf("LOGIN %s@a.test secret-%s", name, name))
	return c
}

var labBoxes = []string{"INBOX", "Work", "Sent", "Drafts"}

// wipe empties the mailboxes and fills them anew.
func wipe(c *client) {
	for _, box := range []string{"new", "newer"} {
		c.do("DELETE " + box)
	}
	for _, box := range labBoxes {
		if box != "INBOX" {
			c.do("DELETE " + box)
			c.do("CREATE " + box)
		}
		c.ok("SELECT " + box)
		c.do(`STORE 1:* +FLAGS (\Deleted)`)
		c.ok("EXPUNGE")
		c.ok("CLOSE")
	}
}

func put(c *client, box string, msg []byte) {
	c.ok(fmt.Sprintf("APPEND %s \"04-Mar-2026 05:06:07 +0000\" {%d+}\r\n%s", box, len(msg), msg))
}

func fillLab(c *client) {
	wipe(c)
	for i := range 8 {
		put(c, "INBOX", fmt.Appendf(nil, "From: a%d@example.org\r\nSubject: number %d\r\n\r\nbody %d\r\n", i, i, i))
		put(c, "Work", attachment(100*i))
	}
	put(c, "Sent", corpus()["nested"])
}

var volatile = []*regexp.Regexp{
	regexp.MustCompile(`UIDVALIDITY \d+`),
	regexp.MustCompile(`COPYUID \d+|APPENDUID \d+`),
	regexp.MustCompile(`\(\d+\.\d+ \+ \d+\.\d+( \+ \d+\.\d+)? secs\)`),
	regexp.MustCompile(`(HIGHESTMODSEQ|MODSEQ) \(?\d+\)?`),
	regexp.MustCompile(`\d+ RECENT|\\Recent ?|RECENT \d+`),
	regexp.MustCompile(`UIDNEXT \d+`),
	regexp.MustCompile(`SAVEDATE "[^"]*"`),
	regexp.MustCompile(`(?m)^\* SEARCH .*MODSEQ.*$`),
}

// marks tell how fresh the provider's own index is; they are there or not.
var marks = regexp.MustCompile(` ?\\(UnM|M)arked`)

func normaliseLab(s string) string {
	s = marks.ReplaceAllString(s, "")
	for _, re := range volatile {
		s = re.ReplaceAllString(s, "~")
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "alice", "user"), "bob", "user")
}

// labExtra are commands of extensions that the lab's provider has.
var labExtra = []string{
	"SORT (REVERSE SUBJECT) UTF-8 ALL", "UID THREAD REFERENCES UTF-8 ALL", "SORT RETURN (COUNT MIN) (DATE) UTF-8 ALL",
	"GETQUOTAROOT INBOX", "SELECT INBOX (CONDSTORE)", "FETCH 1:* (FLAGS MODSEQ)", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)",
	"UID FETCH 1:* (BODY.PEEK[HEADER]) (CHANGEDSINCE 1 VANISHED)", "ENABLE QRESYNC", "SEARCH RETURN (SAVE) ALL",
	"FETCH $ (FLAGS UID)", "UID FETCH $ BODY.PEEK[1]", `LIST (SUBSCRIBED) "" "*" RETURN (SPECIAL-USE)`,
	`LIST "" "*" RETURN (STATUS (MESSAGES))`, "ID (\"name\" \"x\")", "UID SEARCH MODSEQ 1", "SELECT INBOX (QRESYNC (1 1))",
	"UID STORE 1:* (UNCHANGEDSINCE 1) +FLAGS (\\Seen)", "GETMETADATA INBOX /shared/comment", "UID SEARCH TEXT body",
	"STATUS INBOX (HIGHESTMODSEQ SIZE)", "FETCH 1:* (SAVEDATE)", "FETCH 1 (RFC822.HEADER RFC822.TEXT)", "UID",
}

// TestDovecotDifferential is TestDifferentialPlain with a real provider and
// all its extensions.
func TestDovecotDifferential(t *testing.T) {
	addr := openLab(t)
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			a, b := labDirect(t, addr, "alice"), labDirect(t, addr, "bob")
			fillLab(a)
			fillLab(b)
			a, b = labDirect(t, addr, "alice"), labWorld(t, addr, "bob", nil).login()
			s := newScript(seed)
			s.full = true
			for i := range 250 {
				cmd := s.next()
				if i%4 == 3 {
					cmd = labExtra[s.r.IntN(len(labExtra))]
				}
				gotA, tagA := a.do(cmd)
				gotB, tagB := b.do(cmd)
				// Where one refuses, the sentence may be its own.
				for k := range gotA {
					gotA[k] = normaliseLab(gotA[k])
				}
				for k := range gotB {
					gotB[k] = normaliseLab(gotB[k])
				}
				if !slices.Equal(gotA, gotB) || normaliseLab(tagA) != normaliseLab(tagB) {
					t.Fatalf("command %d %q:\ndirect  %q %q\nrelayed %q %q", i, cmd, gotA, tagA, gotB, tagB)
				}
			}
		})
	}
}

// TestDovecotOracle is TestOracle with a real provider, in a mailbox where
// plain and sealed messages alternate.
func TestDovecotOracle(t *testing.T) {
	addr := openLab(t)
	c := labDirect(t, addr, "carol")
	wipe(c)
	messages := corpus()
	messages["large"] = attachment(700_000)
	type sealed struct {
		seq  int
		name string
	}
	var all []sealed
	n := 0
	for _, how := range slices.Sorted(maps.Keys(sealings)) {
		for _, name := range slices.Sorted(maps.Keys(messages)) {
			put(c, "INBOX", seal(messages[name], sealings[how]))
			put(c, "INBOX", []byte(plainMail))
			n += 2
			all = append(all, sealed{n - 1, name})
		}
	}
	r := labWorld(t, addr, "carol", nil).login()
	r.ok("SELECT INBOX")
	for _, s := range all {
		oracle(t, r, s.seq, messages[s.name])
	}
	if got := r.fetchLiteral("FETCH 2 BODY.PEEK[]"); got != plainMail {
		t.Errorf("plain message between sealed ones: %q", got)
	}
}

// TestDovecotSaysTheSame stores the opened messages themselves at a real
// provider: what it answers for them is what the overlay answers.
func TestDovecotSaysTheSame(t *testing.T) {
	addr := openLab(t)
	c := labDirect(t, addr, "carol")
	wipe(c)
	messages := corpus()
	names := slices.Sorted(maps.Keys(messages))
	for _, name := range names {
		put(c, "INBOX", seal(messages[name], sealOptions{}))
		put(c, "Work", append([]byte(statusField), messages[name]...))
	}
	w := labWorld(t, addr, "carol", nil)
	sealed, plain := w.login(), w.login()
	sealed.ok("SELECT INBOX")
	plain.ok("SELECT Work")
	for i, name := range names {
		whole := plain.fetchLiteral(fmt.Sprintf("FETCH %d BODY.PEEK[]", i+1))
		tree, err := mime.Parse(strings.NewReader(whole), int64(len(whole)), mime.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		for item := range expectedItems(tree, []byte(whole)) {
			got, want := fetchItem(sealed, i+1, item), fetchItem(plain, i+1, item)
			if sameValue(got) != sameValue(want) {
				t.Errorf("%s, %s:\noverlay  %.400q\nprovider %.400q", name, item, got, want)
			}
		}
	}
}

// sameValue writes every string of a structure in one way.
func sameValue(v string) string {
	if !strings.HasPrefix(v, "(") {
		return v
	}
	var out strings.Builder
	for sc := wire.NewScanner([]byte(v)); !sc.End(); {
		switch c := sc.Peek(); c {
		case '"', '{':
			s, _ := sc.String()
			fmt.Fprintf(&out, "%q", s)
		default:
			sc.Byte(c)
			out.WriteByte(c)
		}
	}
	return out.String()
}

// TestDovecotMutilated is TestMutilatedMessages with a real provider, and with
// less of the message than the memory provider takes.
func TestDovecotMutilated(t *testing.T) {
	addr := openLab(t)
	messages := mutilated()
	whole := string(seal([]byte(innerMail), sealOptions{}))
	first := strings.Index(whole, "--sep\r\n")
	messages["cut off in a part's header"] = whole[:first+len("--sep\r\nContent-Ty")]
	messages["no parts at all"] = whole[:first]
	c := labDirect(t, addr, "carol")
	wipe(c)
	names := slices.Sorted(maps.Keys(messages))
	for _, name := range names {
		put(c, "INBOX", []byte(messages[name]))
	}
	put(c, "INBOX", []byte(plainMail))
	w := labWorld(t, addr, "carol", nil)
	for range 2 {
		r := w.login()
		r.ok("SELECT INBOX")
		got := r.ok("FETCH 1:* (FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])")
		for i, name := range names {
			if v := value(items(got, i+1), "BODY[]"); !strings.Contains(v, "cannot be opened") {
				t.Errorf("%s: not explained: %.300q", name, v)
			}
		}
		if v := value(items(got, len(names)+1), "BODY[]"); !strings.HasSuffix(v, plainMail) {
			t.Errorf("the plain message: %.300q", v)
		}
	}
}
