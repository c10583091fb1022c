package mailseal

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cloudmls/gateway/internal/mime"
)

func FuzzParseControl(f *testing.F) {
	f.Add(record(f, []byte("From: a@a.example\r\n\r\nbody\r\n")))
	f.Add(record(f, sized(InlineMax+1)))
	f.Add(record(f, append([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"), randomText(1, ChunkSize)...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseControl(b)
		if err != nil {
			return
		}
		got, err := c.MarshalBinary()
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%x became %x, %v", b, got, err)
		}
		m, err := Open(c, bulkBytes(nil))
		if err != nil {
			if c.Inline != nil || !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		v := NewView([]byte("Received: x\r\n\r\n"), "x", m)
		if _, err := readAll(v); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzSealOpen(f *testing.F) {
	for _, b := range messages(f) {
		if len(b) < 100_000 {
			f.Add(b, []byte("Received: x\r\n\r\n"))
		}
	}
	f.Fuzz(func(t *testing.T, inner, outerHeader []byte) {
		var out bytes.Buffer
		s, err := Seal(&out, bytes.NewReader(inner), int64(len(inner)), testOptions())
		var limit *mime.LimitError
		if errors.As(err, &limit) || errors.Is(err, ErrNotSealable) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		checkOuter(t, out.Bytes(), s)
		o, err := open(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(o.message)
		if err != nil || !bytes.Equal(got, inner) || o.message.Verify() != nil {
			t.Fatal("other octets", err)
		}
		v := NewView(outerHeader, "token", o.message)
		b, err := readAll(v)
		if err != nil || !bytes.HasSuffix(b, inner) {
			t.Fatal("other octets in the view", err)
		}
		tree, err := mime.Parse(bytes.NewReader(b), v.Size(), mime.Limits{HeaderBytes: 1 << 20, HeaderLines: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if err := mime.MatchSkeleton(tree, v.Tree()); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	for _, b := range messages(f) {
		h, err := ReadHeader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		Conversation(b)
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		// whatever was read can be shown outside
		o := testOptions()
		o.Outer = h.Outer()
		o.Outer.SubjectToken = "k7x2m9qp"
		if o.Outer.From == "" {
			o.Outer.From = "a@a.example"
		}
		if o.Outer.Date != "" && !isPlainDate(o.Outer.Date) {
			o.Outer.Date = ""
		}
		_, err = Seal(io.Discard, bytes.NewReader([]byte("x")), 1, o)
		if err != nil && !errors.Is(err, ErrOuter) {
			t.Fatal(err)
		}
		for _, m := range append(append(h.From, h.To...), h.Cc...) {
			again, err := ParseHeader([]byte("To: " + m.Address + "\r\n"))
			if err != nil || len(again.To) != 1 || again.To[0].Address != m.Address {
				t.Fatalf("%q is read as %+v, %v", m.Address, again, err)
			}
		}
	})
}

func FuzzStripBcc(f *testing.F) {
	for _, b := range messages(f) {
		if len(b) < 50_000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := StripBcc(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		got, err := io.ReadAll(io.NewSectionReader(r, 0, n))
		if err != nil || int64(len(got)) != n {
			t.Fatal(err)
		}
		h, err := ReadHeader(bytes.NewReader(got), n)
		if err != nil {
			t.Fatal(err)
		}
		for field := range mime.Fields(h) {
			if field.Is("Bcc") {
				t.Fatalf("%q still has a Bcc field", h)
			}
		}
		old, err := ReadHeader(bytes.NewReader(b), int64(len(b)))
		if err != nil || !bytes.HasSuffix(got, b[len(old):]) {
			t.Fatal("body changed", err)
		}
	})
}

func FuzzStub(f *testing.F) {
	f.Add([]byte(untraced+traced+"\r\n"), "status", "text")
	f.Fuzz(func(t *testing.T, header []byte, status, text string) {
		v := Stub(header, status, text)
		b, err := readAll(v)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := mime.Parse(bytes.NewReader(b), v.Size(), mime.Limits{HeaderBytes: 1 << 20, HeaderLines: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if err := mime.MatchSkeleton(tree, v.Tree()); err != nil {
			t.Fatal(err)
		}
	})
}
