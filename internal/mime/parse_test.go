package mime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestEveryOctetHasAPlace checks what offsets promise, over the whole corpus:
// headers and bodies are where they say, lie inside their parents, and count
// their lines.
func TestEveryOctetHasAPlace(t *testing.T) {
	names, messages := corpus(t)
	for i, m := range messages {
		t.Run(names[i], func(t *testing.T) { checkPlaces(t, parse(t, m), m) })
	}
}

func checkPlaces(t *testing.T, root *Part, message []byte) {
	t.Helper()
	if root.HeaderOffset != 0 || root.Size() != int64(len(message)) {
		t.Fatalf("root is octets %d to %d of %d", root.HeaderOffset, root.Size(), len(message))
	}
	root.Walk(func(p *Part, _ int) {
		if !bytes.Equal(p.Header, message[p.HeaderOffset:p.HeaderOffset+p.HeaderLength]) {
			t.Errorf("header at %d is not what is there", p.HeaderOffset)
		}
		if p.BodyOffset != p.HeaderOffset+p.HeaderLength {
			t.Errorf("body at %d, header ends at %d", p.BodyOffset, p.HeaderOffset+p.HeaderLength)
		}
		body := message[p.BodyOffset : p.BodyOffset+p.BodyLength]
		if n := int64(bytes.Count(body, []byte("\n"))); p.Lines != n {
			t.Errorf("body at %d has %d lines, not %d", p.BodyOffset, n, p.Lines)
		}
		from := p.BodyOffset
		for _, c := range p.Children {
			if c.HeaderOffset < from || c.BodyOffset+c.BodyLength > p.BodyOffset+p.BodyLength {
				t.Errorf("part at %d is not in its place", c.HeaderOffset)
			}
			from = c.BodyOffset + c.BodyLength
		}
	})
}

// TestPieces checks that the size of the pieces written makes no difference.
func TestPieces(t *testing.T) {
	names, messages := corpus(t)
	for i, m := range messages {
		want := parse(t, m)
		for _, n := range []int{1, 2, 3, 7, 64} {
			p := NewParser(Limits{})
			for b := m; len(b) > 0; b = b[min(n, len(b)):] {
				if _, err := p.Write(b[:min(n, len(b))]); err != nil {
					t.Fatal(err)
				}
			}
			got, err := p.Finish()
			if err != nil {
				t.Fatal(err)
			}
			if err := MatchSkeleton(got, want); err != nil {
				t.Errorf("%s in pieces of %d: %v", names[i], n, err)
			}
		}
	}
}

func TestFind(t *testing.T) {
	text := "Content-Type: multipart/mixed; boundary=a\r\n\r\n" +
		"--a\r\n\r\none\r\n" +
		"--a\r\nContent-Type: message/rfc822\r\n\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntwo-one\r\n--b--\r\n" +
		"--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nthree\r\n" +
		"--a--\r\n"
	root := parse(t, []byte(text))
	for _, tt := range []struct {
		path []int
		want string // body; "-" for none
	}{
		{[]int{1}, "one"},
		{[]int{2, 1}, "two-one"},
		{[]int{3, 1}, "three"},
		{[]int{3}, "Subject: x\r\n\r\nthree"},
		{[]int{4}, "-"},
		{[]int{0}, "-"},
		{[]int{1, 1}, "-"},
		{[]int{2, 2}, "-"},
		{[]int{3, 1, 1}, "-"},
		{[]int{3, 2}, "-"},
	} {
		got := "-"
		if p := root.Find(tt.path); p != nil {
			got = text[p.BodyOffset : p.BodyOffset+p.BodyLength]
		}
		if got != tt.want {
			t.Errorf("%v: %q, want %q", tt.path, got, tt.want)
		}
	}
	if root.Find(nil) != root {
		t.Error("the empty path is not the message")
	}
	plain := parse(t, []byte("Subject: x\r\n\r\nbody"))
	if plain.Find([]int{1}) != plain || plain.Find([]int{2}) != nil || plain.Find([]int{1, 1}) != nil {
		t.Error("part 1 of a plain message is not the message")
	}
}

func TestHeaderFields(t *testing.T) {
	header := []byte("A: 1\r\nb : 2\r\n folded\r\nA: 3\r\nno colon\r\nC:\r\n\r\n")
	for _, tt := range []struct {
		names string
		not   bool
		want  string
	}{
		{"a", false, "A: 1\r\nA: 3\r\n\r\n"},
		{"B", false, "b : 2\r\n folded\r\n\r\n"},
		{"a b c", true, "no colon\r\n\r\n"},
		{"x", false, "\r\n"},
		{"x", true, string(header)},
		{"no colon", false, "\r\n"},
	} {
		if got := string(HeaderFields(header, strings.Fields(tt.names), tt.not)); got != tt.want {
			t.Errorf("%s %v: %q, want %q", tt.names, tt.not, got, tt.want)
		}
	}
	if got := string(HeaderFields([]byte("A: 1"), []string{"A"}, false)); got != "A: 1\r\n\r\n" {
		t.Errorf("without line end: %q", got)
	}
}

// nested returns a message of n multiparts inside each other.
func nested(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"n%06d\"\r\n\r\n--n%06d\r\n", i, i)
	}
	return b.String() + "\r\nx\r\n"
}

// TestThreat83_Bombs feeds messages that are made to cost time or memory.
func TestThreat83_Bombs(t *testing.T) {
	const mega = 1 << 20
	boundary := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	for _, tt := range []struct {
		name, text, what string // what: the limit, "" for none
	}{
		{"depth", nested(100_000), "levels of parts"},
		{"messages", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100_000), "levels of parts"},
		{"parts", boundary + strings.Repeat("--b\r\n\r\n\r\n", mega), "parts"},
		{"empty parts", boundary + strings.Repeat("--b\r\n", mega), "parts"},
		{"header line", "X: " + strings.Repeat("x", 8*mega) + "\r\n\r\n", "header octets"},
		{"header lines", strings.Repeat("X:\r\n", mega) + "\r\n", "header lines"},
		{"folded", "X:\r\n" + strings.Repeat(" \r\n", mega) + "\r\n", "header lines"},
		{"headers", boundary + strings.Repeat("--b\r\nX: "+strings.Repeat("x", 4000)+"\r\n\r\n\r\n", 1000), "header octets"},
		{"boundary", "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 71) + "\r\n\r\nx", "boundary octets"},
		{"dashes", boundary + strings.Repeat("--", 8*mega), ""},
		{"dash lines", boundary + strings.Repeat("--\r\n", 2*mega), ""},
		{"one line", "\r\n" + strings.Repeat("x", 16*mega), ""},
		{"lines", "\r\n" + strings.Repeat("\n", 16*mega), ""},
		{"almost boundaries", boundary + strings.Repeat("--a\r\n", 2*mega), ""},
		{"comments", "From: " + strings.Repeat("(", 200_000) + "\r\n\r\n", ""},
		{"addresses", "From: " + strings.Repeat("a@b,", 60_000) + "\r\n\r\n", ""},
		{"groups", "From: " + strings.Repeat("a:", 120_000) + "\r\n\r\n", ""},
		{"phrases", "From: " + strings.Repeat("a ", 120_000) + "\r\n\r\n", ""},
		{"parameters", "Content-Type: text/plain" + strings.Repeat(";a*1=b", 40_000) + "\r\n\r\n", ""},
		{"semicolons", "Content-Type: text/plain" + strings.Repeat(";", 250_000) + "\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			root, err := Parse(strings.NewReader(tt.text), int64(len(tt.text)), DefaultLimits)
			var limit *LimitError
			switch {
			case tt.what == "" && err != nil:
				t.Fatal(err)
			case tt.what != "" && (!errors.As(err, &limit) || limit.What != tt.what):
				t.Fatalf("%v instead of the limit of %s", err, tt.what)
			case err == nil:
				root.Envelope()
				root.BodyStructure()
			}
			runtime.ReadMemStats(&after)
			// far above what it takes, far below what a quadratic parser takes
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
				t.Errorf("allocated %d MiB", n>>20)
			}
		})
	}
}

// failing is a source that fails behind n octets.
type failing struct{ n int64 }

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.n {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestParseReportsReadErrors(t *testing.T) {
	if _, err := Parse(failing{100}, 1000, DefaultLimits); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if _, err := Parse(strings.NewReader("short"), 1000, DefaultLimits); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestWithPrefix(t *testing.T) {
	names, messages := corpus(t)
	prefix := []byte("Received: x\r\n y\r\nX-Status: z\r\n")
	for i, m := range messages {
		if len(m) > 0 && (m[0] == ' ' || m[0] == '\t') {
			continue
		}
		want := parse(t, append(bytes.Clone(prefix), m...))
		if err := MatchSkeleton(parse(t, m).WithPrefix(prefix), want); err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	text := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat(line, 20<<20/len(line)) + "--b--\r\n"
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Parse(strings.NewReader(text), int64(len(text)), DefaultLimits); err != nil {
			b.Fatal(err)
		}
	}
}
