package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// pieces reads everything in r and writes down what the Reader says.
func pieces(r io.Reader, limit int) (out string, rebuilt []byte) {
	wr := NewReader(r)
	var b strings.Builder
	for {
		seg, err := wr.ReadSegment(limit)
		if err != nil {
			fmt.Fprintf(&b, "end %v", err)
			return b.String(), rebuilt
		}
		fmt.Fprintf(&b, "%q literal=%v size=%d nonsync=%v binary=%v bare=%v\n", seg.Text, seg.Literal, seg.Size, seg.NonSync, seg.Binary, seg.BareLF)
		rebuilt = append(rebuilt, seg.Raw...)
		if seg.Literal {
			var lit bytes.Buffer
			if err := wr.CopyLiteral(&lit, seg.Size); err != nil {
				fmt.Fprintf(&b, "in literal %v", err)
				return b.String(), rebuilt
			}
			fmt.Fprintf(&b, "%q\n", lit.Bytes())
			rebuilt = append(rebuilt, lit.Bytes()...)
		}
	}
}

var streams = []string{
	"A1 NOOP\r\n",
	"A1 LOGIN {5}\r\nalice {6+}\r\nsecret\r\nA2 NOOP\r\n",
	"A1 APPEND x ~{3}\r\na\x00b\r\n",
	"* 1 FETCH (BODY[] {2}\r\n\r\n FLAGS ())\r\n",
	"a {0}\r\n\r\n", "a {}\r\n", "a {-1}\r\n", "a {99999999999999999999}\r\n", "a {1x}\r\nb\r\n", "{3}\r\nabc{4}\r\nabcd\r\n",
	"bare lf\nnext {2}\nab\r\n", "\r\n\n\r\r\n", "no end", "a {10}\r\nshort", "", "\x00\r\n", "x} {y}\r\n",
}

// TestReaderSplitAnywhere cuts streams at every octet: what is read must not
// depend on how the octets arrive.
func TestReaderSplitAnywhere(t *testing.T) {
	for _, s := range streams {
		want, _ := pieces(strings.NewReader(s), 100)
		for i := range len(s) + 1 {
			got, _ := pieces(io.MultiReader(strings.NewReader(s[:i]), strings.NewReader(s[i:])), 100)
			if got != want {
				t.Fatalf("%q cut at %d:\n%s\nwant\n%s", s, i, got, want)
			}
		}
		if got, _ := pieces(iotest.OneByteReader(strings.NewReader(s)), 100); got != want {
			t.Errorf("%q octet by octet:\n%s\nwant\n%s", s, got, want)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range streams {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if cut < 0 || cut > len(b) {
			cut = len(b) / 2
		}
		want, rebuilt := pieces(bytes.NewReader(b), 1000)
		got, _ := pieces(io.MultiReader(bytes.NewReader(b[:cut]), bytes.NewReader(b[cut:])), 1000)
		if got != want {
			t.Fatalf("cut at %d:\n%s\nwant\n%s", cut, got, want)
		}
		// Nothing is lost or invented, bare line feeds aside.
		if !strings.Contains(want, "bare=true") && !bytes.HasPrefix(b, rebuilt) {
			t.Fatalf("rebuilt %q from %q", rebuilt, b)
		}
	})
}

func TestReaderLimits(t *testing.T) {
	r := NewReader(strings.NewReader(strings.Repeat("x", 200_000) + "\r\n"))
	if _, err := r.ReadSegment(100_000); !errors.Is(err, ErrTooLong) {
		t.Errorf("got %v", err)
	}
	// A line that never ends is refused without waiting for its end.
	pr, pw := io.Pipe()
	defer pw.Close()
	go pw.Write(bytes.Repeat([]byte("y"), 2000))
	if _, err := NewReader(pr).ReadSegment(1000); !errors.Is(err, ErrTooLong) {
		t.Errorf("got %v", err)
	}
	long := strings.Repeat("z", 90_000) + "\r\n"
	seg, err := NewReader(strings.NewReader(long)).ReadSegment(100_000)
	if err != nil || string(seg.Raw) != long {
		t.Errorf("long line: %v", err)
	}
}

var values = []string{
	"NIL", `"a\"b\\c"`, "{3}\r\nabc", "~{3+}\r\na\x00c", "(a (b \"c)\" {2}\r\n)( ) d)", "()", "12", `\Seen`, "BODY[]<0>",
	"(((((((", `"open`, "{5}\r\nab", "{x}", "~", strings.Repeat("(", 100) + strings.Repeat(")", 100),
}

func TestScannerValue(t *testing.T) {
	for _, v := range values[:9] {
		sc := NewScanner([]byte(v + " next"))
		got, err := sc.Value()
		if err != nil || string(got) != v || !sc.SP() {
			t.Errorf("%q: got %q, %v", v, got, err)
		}
	}
	for _, v := range values[9:] {
		if v == "~" {
			continue
		}
		if got, err := NewScanner([]byte(v)).Value(); err == nil {
			t.Errorf("%q: got %q", v, got)
		}
	}
}

func FuzzScanner(f *testing.F) {
	for _, v := range values {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sc := NewScanner(b)
		v, err := sc.Value()
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, v) || sc.Pos() != len(v) || len(v) == 0 {
			t.Fatalf("value %q of %q, pos %d", v, b, sc.Pos())
		}
		s, ok := NewScanner(v).NString()
		if !ok {
			return
		}
		again, ok := NewScanner(AppendNString(nil, s)).NString()
		if !ok || !bytes.Equal(again, s) || (again == nil) != (s == nil) {
			t.Fatalf("%q became %q", s, again)
		}
	})
}

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		in   string
		last uint32
		out  string
	}{
		{"1", 9, "1"}, {"3:1", 9, "1:3"}, {"*", 9, "9"}, {"12:*", 9, "9:12"}, {"*:*", 9, "9"}, {"5,1:2,3,9", 9, "1:3,5,9"},
		{"4294967295,1:4294967295", 9, "1:4294967295"}, {"*", 0, ""}, {"2:*", 0, "1:2"},
	} {
		set, err := ParseSet([]byte(tt.in))
		if err != nil {
			t.Fatalf("%s: %v", tt.in, err)
		}
		if got := set.Resolve(tt.last).String(); got != tt.out {
			t.Errorf("%s with last %d: got %s, want %s", tt.in, tt.last, got, tt.out)
		}
	}
	for _, bad := range []string{"", "0", "a", "1,", "1:", ":2", "-1", "1:2:3", "4294967296", "+1", "$"} {
		if set, err := ParseSet([]byte(bad)); err == nil {
			t.Errorf("%q gave %v", bad, set)
		}
	}
}

// TestSetMinus compares with the obvious way to do it.
func TestSetMinus(t *testing.T) {
	set := Set{{1, 1}, {3, 6}, {8, 12}, {20, 20}}
	for mask := range 1 << 13 {
		var drop []uint32
		for i := range 13 {
			if mask>>i&1 == 1 {
				drop = append(drop, uint32(i))
			}
		}
		got := set.Minus(drop)
		for n := uint32(0); n < 25; n++ {
			dropped := false
			for _, d := range drop {
				dropped = dropped || d == n
			}
			if want := set.Contains(n) && !dropped; got.Contains(n) != want {
				t.Fatalf("%v minus %v = %v: wrong about %d", set, drop, got, n)
			}
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte("1:3,*,7:*"), uint32(10))
	f.Fuzz(func(t *testing.T, b []byte, last uint32) {
		set, err := ParseSet(b)
		if err != nil {
			return
		}
		r := set.Resolve(last)
		if len(r) == 0 {
			return
		}
		again, err := ParseSet(r.Append(nil))
		if err != nil || again.Resolve(last).String() != r.String() {
			t.Fatalf("%q: %v, %v", b, r, err)
		}
	})
}
