package mailseal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/internal/mime"
)

// testAEAD stands for what seals control records in real life.
var testAEAD = func() cipher.AEAD {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}()

func sealControl(record []byte) ([]byte, error) { return testAEAD.Seal(nil, nil, record, nil), nil }

func openControl(content []byte) ([]byte, error) { return testAEAD.Open(nil, nil, content, nil) }

func testOptions() SealOptions {
	return SealOptions{
		Outer: Outer{
			From: "alice@a.example", To: []string{"bob@b.example"}, Cc: []string{"carol@c.example"},
			Date: "Mon, 02 Nov 2026 10:00:00 +0100", MessageID: "<m1@a.example>",
			References: "<a@a.example> <b@b.example>", InReplyTo: "<b@b.example>", SubjectToken: "k7x2m9qp",
		},
		Conversation: [16]byte{1, 2, 3},
		Kind:         KindMessage,
		Control:      sealControl,
	}
}

func seal(t testing.TB, inner []byte, o SealOptions) ([]byte, *Sealed) {
	t.Helper()
	var out bytes.Buffer
	s, err := Seal(&out, bytes.NewReader(inner), int64(len(inner)), o)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s
}

// opened is everything that opening an outer message gives.
type opened struct {
	outer   *mime.Part
	loc     Location
	content []byte
	control *Control
	bulk    Bulk
	message *Message
}

func open(outer []byte) (*opened, error) {
	var (
		o   opened
		err error
		ok  bool
	)
	r := bytes.NewReader(outer)
	if o.outer, err = mime.Parse(r, r.Size(), mime.DefaultLimits); err != nil {
		return nil, err
	}
	if o.loc, ok = Locate(o.outer); !ok {
		return nil, errors.New("not a sealed message")
	}
	if o.content, err = DecodeControl(r, o.loc.Control); err != nil {
		return nil, err
	}
	record, err := openControl(o.content)
	if err != nil {
		return nil, err
	}
	if o.control, err = ParseControl(record); err != nil {
		return nil, err
	}
	if o.bulk, err = DecodeBulk(r, o.loc.Bulk); err != nil {
		return nil, err
	}
	o.message, err = Open(o.control, o.bulk)
	return &o, err
}

func readAll(r interface {
	io.ReaderAt
	Size() int64
}) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
}

// messages returns the corpus and generated messages, by name.
func messages(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../mime/testdata/corpus/*.eml")
	if err != nil || len(files) < 40 {
		t.Fatal("no corpus", err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".eml")
		if len(b) > 0 {
			all[name] = b
			// again, too large to be inline: whatever it is, with more behind it
			all[name+" bulk"] = append(bytes.Clone(b), randomText(len(b), 60<<10)...)
		}
	}
	for _, n := range []int{InlineMax - 1, InlineMax, InlineMax + 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 1<<20 + 13} {
		all[fmt.Sprint("size ", n)] = sized(n)
	}
	all["ten megabytes"] = sized(10 << 20)
	return all
}

// sized returns a message of n octets.
func sized(n int) []byte {
	b := append([]byte("From: a@a.example\r\nSubject: sized\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n\r\n"),
		randomText(n, n)...)
	return b[:n]
}

func randomText(seed, n int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	b := make([]byte, 0, n+78)
	for len(b) < n {
		for range 60 {
			b = append(b, byte('!'+rnd.IntN(90)))
		}
		b = append(b, "\r\n"...)
	}
	return b[:n]
}

func TestRoundTrip(t *testing.T) {
	for name, inner := range messages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outer, s := seal(t, inner, testOptions())
			checkOuter(t, outer, s)
			o, err := open(outer)
			if err != nil {
				t.Fatal(err)
			}
			if s.Ref != Ref(o.content) {
				t.Error("another reference")
			}
			if (o.control.Inline != nil) != (len(inner) <= InlineMax) {
				t.Errorf("%d octets are in the wrong place", len(inner))
			}
			got, err := readAll(o.message)
			if err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(got) != sha256.Sum256(inner) {
				t.Fatal("other octets")
			}
			if err := o.message.Verify(); err != nil {
				t.Error(err)
			}
			want, err := mime.Parse(bytes.NewReader(inner), int64(len(inner)), mime.DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			if err := mime.MatchSkeleton(o.message.Tree(), want); err != nil {
				t.Error(err)
			}
			if o.message.Kind() != KindMessage || o.message.Conversation() != [16]byte{1, 2, 3} {
				t.Error("other kind or conversation")
			}
			if id, ok := Conversation(s.Header); !ok || id != [16]byte{1, 2, 3} {
				t.Error("other conversation outside")
			}
		})
	}
}

// checkOuter checks the shape of an outer message: design, RFC 1847 section
// 2.2, RFC 2045 section 6.8.
func checkOuter(t *testing.T, outer []byte, s *Sealed) {
	t.Helper()
	if int64(len(outer)) != s.Size {
		t.Errorf("size %d, said %d", len(outer), s.Size)
	}
	if !bytes.HasPrefix(outer, s.Header) {
		t.Error("header is not that of the message")
	}
	if bytes.Count(outer, []byte("\n")) != bytes.Count(outer, []byte("\r\n")) || bytes.Count(outer, []byte("\r")) != bytes.Count(outer, []byte("\r\n")) {
		t.Error("bare CR or LF")
	}
	for line := range bytes.Lines(outer) {
		if len(line) > 78 {
			t.Fatalf("line of %d octets: %q", len(line), line)
		}
	}
	root, err := mime.Parse(bytes.NewReader(outer), int64(len(outer)), mime.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if typ, sub := root.Type(); typ+"/"+sub != "multipart/encrypted" || len(root.Children) != 2 {
		t.Fatalf("%s/%s with %d parts", typ, sub, len(root.Children))
	}
	protocol := ""
	for _, p := range root.BodyStructure().Params {
		if string(p.Name) == "protocol" {
			protocol = string(p.Value)
		}
	}
	if protocol != ControlType {
		t.Errorf("protocol %q", protocol)
	}
	for i, want := range []string{ControlType, BulkType} {
		c := root.Children[i]
		if typ, sub := c.Type(); typ+"/"+sub != want || c.Encoding() != "base64" {
			t.Errorf("part %d is %s/%s in %s", i+1, typ, sub, c.Encoding())
		}
	}
}

// TestFlaw35_TextSurvives: F35, text was cut to one octet a character, and
// large text overflowed the stack.
func TestFlaw35_TextSurvives(t *testing.T) {
	text := "Grüße 日本 😀 \u0000? \u2028 עברית\r\n"
	for _, n := range []int{1, 200 << 10 / len(text), 4 << 20 / len(text)} {
		inner := []byte("Subject: Grüße 日本 😀\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
			strings.Repeat(text, n))
		outer, _ := seal(t, inner, testOptions())
		o, err := open(outer)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(o.message)
		if err != nil || !bytes.Equal(got, inner) {
			t.Fatalf("%d octets: %v", len(inner), err)
		}
		if s := string(o.message.Tree().Envelope().Subject); s != "Grüße 日本 😀" {
			t.Errorf("subject %q", s)
		}
	}
}

// dated seals and opens a message with this date inside and outside, and
// returns what the client would see.
func dated(t *testing.T, date string) (record *Control, view []byte) {
	t.Helper()
	o := testOptions()
	o.Outer.Date = ""
	inner := []byte("From: alice@a.example\r\nSubject: x\r\n\r\nbody\r\n")
	outer, _ := seal(t, inner, o)
	if date != "" {
		// whoever carries the message can put any date on it
		outer = append([]byte("Date: "+date+"\r\n"), outer...)
	}
	got, err := open(outer)
	if err != nil {
		t.Fatalf("date %q: %v", date, err)
	}
	b, err := readAll(NewView(got.outer.Header, "token; verified", got.message))
	if err != nil {
		t.Fatal(err)
	}
	return got.control, b
}

// TestFlaw37_DateIsNeverASecurityInput: F37, what was decrypted depended on a
// date that the carrier chooses.
func TestFlaw37_DateIsNeverASecurityInput(t *testing.T) {
	_, want := dated(t, "")
	for _, date := range []string{
		"Thu, 01 Jan 1970 00:00:00 +0000", "Fri, 31 Dec 9999 23:59:59 +0000", "Mon, 02 Nov 2026 10:00:00 +0100", "garbage", "(",
	} {
		if _, got := dated(t, date); !bytes.Equal(got, want) {
			t.Errorf("date %q outside changes the view:\n%q\n%q", date, got, want)
		}
	}
}

// TestSeedFlaw03_DateIsNeverASecurityInput: row 0.3, text with an early date
// was passed as if it were protected. Here nothing that is not sealed is ever
// presented as a message's content, whatever its date.
func TestSeedFlaw03_DateIsNeverASecurityInput(t *testing.T) {
	for _, date := range []string{"Thu, 01 Jan 1970 00:00:00 +0000", "Fri, 31 Dec 9999 23:59:59 +0000", ""} {
		plain := []byte("From: alice@a.example\r\nDate: " + date + "\r\nContent-Type: multipart/encrypted; boundary=b\r\n\r\n" +
			"--b\r\nContent-Type: " + ControlType + "\r\n\r\ninjected text\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\ninjected\r\n--b--\r\n")
		if _, err := open(plain); err == nil {
			t.Errorf("date %q: unsealed text was opened", date)
		}
	}
	// and a record says the same whenever it was made
	a, _ := dated(t, "Thu, 01 Jan 1970 00:00:00 +0000")
	b, _ := dated(t, "")
	x, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.MarshalBinary()
	if err != nil || !bytes.Equal(x, y) {
		t.Error("control records depend on time")
	}
}

func TestSealRefuses(t *testing.T) {
	good := "From: a@a.example\r\n\r\nx"
	for _, tt := range []struct {
		name  string
		inner string
		spoil func(o *SealOptions)
		want  error
	}{
		{"empty", "", nil, ErrNotSealable},
		{"continuation first", " x: y\r\n\r\n", nil, ErrNotSealable},
		{"tab first", "\tx: y\r\n\r\n", nil, ErrNotSealable},
		{"display name", good, func(o *SealOptions) { o.Outer.From = "Alice <a@a.example>" }, ErrOuter},
		{"comment", good, func(o *SealOptions) { o.Outer.To = []string{"a@a.example (Alice)"} }, ErrOuter},
		{"group", good, func(o *SealOptions) { o.Outer.To = []string{"g:a@a.example;"} }, ErrOuter},
		{"two addresses", good, func(o *SealOptions) { o.Outer.Cc = []string{"a@a.example,b@b.example"} }, ErrOuter},
		{"line end", good, func(o *SealOptions) { o.Outer.To = []string{"a@a.example\r\nBcc: x@x.example"} }, ErrOuter},
		{"line end in quotes", good, func(o *SealOptions) { o.Outer.To = []string{"\"a\r\n b\"@a.example"} }, ErrOuter},
		{"no sender", good, func(o *SealOptions) { o.Outer.From = "" }, ErrOuter},
		{"date comment", good, func(o *SealOptions) { o.Outer.Date = "Mon, 02 Nov 2026 10:00:00 +0100 (secret)" }, ErrOuter},
		{"date text", good, func(o *SealOptions) { o.Outer.Date = "tomorrow" }, ErrOuter},
		{"message id", good, func(o *SealOptions) { o.Outer.MessageID = "<a\r\nX: y>" }, ErrOuter},
		{"two message ids", good, func(o *SealOptions) { o.Outer.MessageID = "<a@b> <c@d>" }, ErrOuter},
		{"phrase in references", good, func(o *SealOptions) { o.Outer.InReplyTo = "your message of Monday <a@b>" }, ErrOuter},
		{"token", good, func(o *SealOptions) { o.Outer.SubjectToken = "secret!!" }, ErrOuter},
		{"no token", good, func(o *SealOptions) { o.Outer.SubjectToken = "" }, ErrOuter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := testOptions()
			if tt.spoil != nil {
				tt.spoil(&o)
			}
			var out bytes.Buffer
			_, err := Seal(&out, strings.NewReader(tt.inner), int64(len(tt.inner)), o)
			if !errors.Is(err, tt.want) || out.Len() > 0 {
				t.Errorf("%v, %d octets written", err, out.Len())
			}
		})
	}
	failure := errors.New("no key")
	o := testOptions()
	o.Control = func([]byte) ([]byte, error) { return nil, failure }
	var out bytes.Buffer
	if _, err := Seal(&out, strings.NewReader(good), int64(len(good)), o); !errors.Is(err, failure) || out.Len() > 0 {
		t.Errorf("%v, %d octets written", err, out.Len())
	}
	var limit *mime.LimitError
	bomb := strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100)
	if _, err := Seal(&out, strings.NewReader(bomb), int64(len(bomb)), testOptions()); !errors.As(err, &limit) || out.Len() > 0 {
		t.Errorf("bomb: %v", err)
	}
}

// changing is a message that is another one when it is read again.
type changing struct {
	b     []byte
	reads int
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	if c.reads++; c.reads > 3 {
		c.b[len(c.b)-1] ^= 1
	}
	return bytes.NewReader(c.b).ReadAt(p, off)
}

func TestSealNoticesChanges(t *testing.T) {
	b := sized(3 * ChunkSize)
	if _, err := Seal(io.Discard, &changing{b: b}, int64(len(b)), testOptions()); err == nil {
		t.Error("a message that changed was sealed")
	}
}

func TestReaderOnlyOnce(t *testing.T) {
	b := sized(ChunkSize)
	p, err := Prepare(bytes.NewReader(b), int64(len(b)), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, p.Reader()); err != nil || n != p.Size {
		t.Fatalf("%d octets of %d, %v", n, p.Size, err)
	}
	if _, err := io.Copy(io.Discard, p.Reader()); err == nil {
		t.Error("read twice")
	}
}
