package overlay

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
)

const (
	control = `("application" "vnd.cloudmls.control" NIL NIL NIL "base64" 1200 NIL NIL NIL NIL)`
	bulk    = `("APPLICATION" "OCTET-STREAM" ("name" "a)(b") NIL NIL "BASE64" 64000 NIL NIL NIL NIL)`
	text    = `("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 12 1 NIL NIL NIL NIL)`
)

var structures = []struct {
	name, in, want string
}{
	{"as sent", `(` + control + bulk + ` "encrypted" ("protocol" "application/vnd.cloudmls.control" "boundary" "x") NIL NIL NIL)`, "1 2 64000 base64"},
	{"spaces between parts", `(` + control + ` ` + bulk + ` "encrypted")`, "1 2 64000 base64"},
	{"non-extended", `(("application" "vnd.cloudmls.control" NIL NIL NIL "base64" 9)("application" "octet-stream" NIL NIL NIL "binary" 3) "mixed")`, "1 2 3 binary"},
	{"with a footer", `(` + control + bulk + text + ` "mixed")`, "1 2 64000 base64"},
	{"with a header", `(` + text + control + text + bulk + ` "mixed")`, "2 4 64000 base64"},
	{"one level down", `((` + control + bulk + ` "mixed" ("boundary" {3}` + "\r\n\")(" + `) NIL NIL)` + text + ` "mixed")`, "1.1 1.2 64000 base64"},
	{"second branch", `(` + text + `(` + text + control + bulk + ` "mixed") "mixed")`, "2.2 2.3 64000 base64"},
	{"encoding missing", `(` + control + `("application" "octet-stream" NIL NIL NIL NIL 7) "mixed")`, "1 2 7 7bit"},

	{"second part missing", `(` + control + ` "encrypted" ("boundary" "x" "PROTOCOL" "application/vnd.CloudMLS.control") NIL NIL NIL)`, "incomplete"},
	{"cut off in the first part", `(` + text + ` "ENCRYPTED" ("protocol" {32}` + "\r\n" + `application/vnd.cloudmls.control))`, "incomplete"},
	{"control part too large", `(("application" "vnd.cloudmls.control" NIL NIL NIL "base64" 99999999)` + bulk + ` "encrypted" ("protocol" "application/vnd.cloudmls.control"))`, "incomplete"},
	{"incomplete, forwarded", `((` + control + ` "encrypted" ("protocol" "application/vnd.cloudmls.control")) "mixed")`, ""},
	{"other protocol", `(` + control + ` "encrypted" ("protocol" "application/pgp-encrypted" "x" "application/vnd.cloudmls.control"))`, ""},
	{"odd parameters", `(` + control + bulk + ` "encrypted" ("protocol" ("x" NIL) NIL) NIL NIL NIL)`, "1 2 64000 base64"},
	{"no parameters", `(` + control + bulk + ` "encrypted" NIL NIL)`, "1 2 64000 base64"},

	{"plain", text, ""},
	{"alternative", `(` + text + text + ` "alternative")`, ""},
	{"control alone", `(` + control + ` "mixed")`, ""},
	{"bulk first", `(` + bulk + control + ` "mixed")`, ""},
	{"not siblings", `((` + control + ` "mixed")` + bulk + ` "mixed")`, ""},
	{"too deep", `(((` + control + bulk + ` "mixed") "mixed") "mixed")`, ""},
	{"forwarded", `("message" "rfc822" NIL NIL NIL "7bit" 100 ("d" "s" NIL NIL NIL NIL NIL NIL NIL NIL) (` + control + bulk + ` "encrypted") 10)`, ""},
	{"forwarded beside text", `(` + text + `("message" "rfc822" NIL NIL NIL "7bit" 100 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) (` + control + bulk + ` "encrypted") 10) "mixed")`, ""},
	{"control too large", `(("application" "vnd.cloudmls.control" NIL NIL NIL "base64" 99999999)` + bulk + ` "encrypted")`, ""},
	{"NIL", `NIL`, ""}, {"empty", ``, ""}, {"broken", `(("a`, ""}, {"trailing", `(` + control + bulk + ` "mixed") x`, ""},
	{"exchange", `(NIL NIL "mixed")`, ""},
}

func TestLocate(t *testing.T) {
	for _, tt := range structures {
		l, ok := Locate([]byte(tt.in))
		got := ""
		if ok {
			got = l.String()
			if again, err := ParseLayout(got); err != nil || again != l {
				t.Errorf("%s: layout %q reads as %v, %v", tt.name, got, again, err)
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, bad := range []string{"", "1 2 3", "1 2 -3 base64", "0 1 3 base64", "1..2 1 3 base64", "1 2.x 3 base64", "1 2 x base64"} {
		if l, err := ParseLayout(bad); err == nil {
			t.Errorf("layout %q gave %v", bad, l)
		}
	}
}

func FuzzLocate(f *testing.F) {
	for _, tt := range structures {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, ok := Locate(b); ok {
			if again, err := ParseLayout(l.String()); err != nil || again != l {
				t.Fatalf("%v became %v, %v", l, again, err)
			}
		}
	})
}

var requests = []struct{ in, items, modifiers string }{
	{"1:* FLAGS", "FLAGS", ""},
	{"1 (flags Uid rfc822.size)", "flags|Uid|rfc822.size", ""},
	{"1,3:* ALL", "FLAGS|INTERNALDATE|RFC822.SIZE|ENVELOPE", ""},
	{"$ full", "FLAGS|INTERNALDATE|RFC822.SIZE|ENVELOPE|BODY", ""},
	{"1 body[]", "BODY[]", ""},
	{"1 (BODY.PEEK[1.2.mime] BODY[TEXT]<0.10> BODY.PEEK[3.header.fields.not (a \"b c\")])", `BODY.PEEK[1.2.MIME]|BODY[TEXT]<0.10>|BODY.PEEK[3.HEADER.FIELDS.NOT (a "b c")]`, ""},
	{"1 BODY.PEEK[HEADER.FIELDS ({4}\r\nFrom {2+}\r\nTo)]", "BODY.PEEK[HEADER.FIELDS (From To)]", ""},
	{"1 (FLAGS) (CHANGEDSINCE 12 VANISHED)", "FLAGS", " (CHANGEDSINCE 12 VANISHED)"},
	{"1 (X-GM-LABELS BINARY.PEEK[1.2]<3.4> FOO[bar])", "X-GM-LABELS|BINARY.PEEK[1.2]<3.4>|FOO[bar]", ""},
}

var badRequests = []string{"", "1", "1 ", "1 (", "1 ()x", "1 (FLAGS", "1 FLAGS UID", "1 BODY[", "1 BODY[x]", "1 BODY[1.]", "1 BODY[MIME]", "1 BODY[0]", "1 BODY[1..2]",
	"1 BODY[]<0>", "1 BODY[]<0.0>", "1 BODY[]<a.b>", "1 BODY[HEADER.FIELDS]", "1 BODY[HEADER.FIELDS (a", "1 BODY[HEADER.FIELDS (\"a\r\nb\")]", "1 FLAGS (", "1 FLAGS (a) b",
	"1 BODY[HEADER.FIELDS ({3}\r\na\r\n)]"}

func TestParseRequest(t *testing.T) {
	for _, tt := range requests {
		r, err := ParseRequest([]byte(tt.in + "\r\n"))
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		var got []string
		for _, it := range r.Items {
			got = append(got, string(it.Text))
		}
		if s := strings.Join(got, "|"); s != tt.items || string(r.Modifiers) != tt.modifiers {
			t.Errorf("%q: got %q %q", tt.in, s, r.Modifiers)
		}
		if bytes.ContainsAny(r.ItemText, "\r\n{") {
			t.Errorf("%q: item text %q", tt.in, r.ItemText)
		}
	}
	for _, bad := range badRequests {
		if r, err := ParseRequest([]byte(bad + "\r\n")); err == nil {
			t.Errorf("%q gave %v", bad, r.Items)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, tt := range requests {
		f.Add([]byte(tt.in))
	}
	for _, bad := range badRequests {
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		// What goes to the provider is one line and means the same.
		line := append(append(append(bytes.Clone(r.Set), ' '), r.ItemText...), r.Modifiers...)
		if bytes.ContainsAny(r.ItemText, "\r\n") {
			t.Fatalf("%q: items %q", b, r.ItemText)
		}
		again, err := ParseRequest(line)
		if err != nil || len(again.Items) != len(r.Items) {
			t.Fatalf("%q became %q: %v", b, line, err)
		}
		for i := range r.Items {
			if string(again.Items[i].Text) != string(r.Items[i].Text) {
				t.Fatalf("%q: item %q became %q", b, r.Items[i].Text, again.Items[i].Text)
			}
		}
	})
}

func FuzzParseItems(f *testing.F) {
	for _, s := range []string{"(FLAGS (\\Seen) UID 4)", "(BODY[HEADER.FIELDS (\"a]\" {2}\r\nb])] {3}\r\nabc X NIL)", "()", "(FLAGS)", "(A  B  )", "(BODY[]<3> \"x\")"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := ParseItems(b)
		if err != nil {
			return
		}
		out := []byte("(")
		for i, it := range items {
			if i > 0 {
				out = append(out, ' ')
			}
			out = append(append(append(out, it.Name...), ' '), it.Value...)
		}
		again, err := ParseItems(append(out, ')'))
		if err != nil || len(again) != len(items) {
			t.Fatalf("%q became %q: %v", b, out, err)
		}
	})
}

// encode writes base64 lines in the manner of some mail program.
func encode(b []byte, line int, eol string, blank string) []byte {
	enc := base64.StdEncoding.EncodeToString(b)
	var out bytes.Buffer
	for len(enc) > 0 {
		n := min(line, len(enc))
		out.WriteString(enc[:n])
		enc = enc[n:]
		if len(enc) > 0 {
			out.WriteString("\r\n")
		}
	}
	out.WriteString(eol + blank)
	return out.Bytes()
}

// TestBulkForms reads a part in many written forms, in order and at random.
func TestBulkForms(t *testing.T) {
	content := make([]byte, 1_000_003)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	ragged := bytes.ReplaceAll(encode(content, 76, "\r\n", ""), []byte("AAAA\r\n"), []byte("\r\nAAAA\r\n"))
	middle := encode(content, 76, "\r\n", "")
	at := len(middle) / 78 / 2 * 78
	middle = append(append(bytes.Clone(middle[:at]), "\r\n"...), middle[at:]...)
	for name, tt := range map[string]struct {
		encoding string
		raw      []byte
		announce int64
	}{
		"76":            {"base64", encode(content, 76, "\r\n", ""), 0},
		"72":            {"base64", encode(content, 72, "\r\n", ""), 0},
		"no final CRLF": {"base64", encode(content, 76, "", ""), 0},
		"blank lines":   {"base64", encode(content, 76, "\r\n", "\r\n\r\n"), 0},
		"one line":      {"base64", encode(content, 1<<30, "\r\n", ""), 0},
		"odd lines":     {"base64", encode(content, 77, "\r\n", ""), 0},
		"ragged":        {"base64", ragged, 0},
		"blank inside":  {"base64", middle, 0},
		"too short":     {"base64", encode(content, 76, "\r\n", ""), 1_000_000},
		"too long":      {"base64", encode(content, 76, "\r\n", ""), 2_000_000},
		"binary":        {"binary", content, 0},
	} {
		t.Run(name, func(t *testing.T) {
			octets := tt.announce
			if octets == 0 {
				octets = int64(len(tt.raw))
			}
			fetched := int64(0)
			b := NewBulk(tt.encoding, octets, func(off, n int64) ([]byte, error) {
				off = min(off, int64(len(tt.raw)))
				p := tt.raw[off:min(off+n, int64(len(tt.raw)))]
				fetched += int64(len(p))
				return bytes.Clone(p), nil
			})
			if b.Size() != int64(len(content)) {
				t.Fatalf("size %d, want %d", b.Size(), len(content))
			}
			fetched = 0
			got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("in order: %d octets, %v", len(got), err)
			}
			if fetched > 2*int64(len(tt.raw)) {
				t.Errorf("reading once fetched %d octets of %d", fetched, len(tt.raw))
			}
			for _, off := range []int64{999_000, 5, 500_000, 499_990, 0, 1_000_002, 262_144} {
				p := make([]byte, 70_000)
				n, err := b.ReadAt(p, off)
				want := content[off:min(off+70_000, int64(len(content)))]
				if !bytes.Equal(p[:n], want) || (err != nil) != (n < len(p)) {
					t.Errorf("at %d: %d octets, %v", off, n, err)
				}
			}
			if _, err := b.ReadAt(make([]byte, 1), int64(len(content))); err != io.EOF {
				t.Errorf("behind the end: %v", err)
			}
		})
	}
	failing := NewBulk("base64", 1_000_000, func(int64, int64) ([]byte, error) { return nil, io.ErrClosedPipe })
	if _, err := failing.ReadAt(make([]byte, 5), 0); !errors.Is(err, io.ErrClosedPipe) || failing.Size() != -1 {
		t.Errorf("got %v, size %d", err, failing.Size())
	}
}

// FuzzDecodeLines compares with the standard library on what is accepted.
func FuzzDecodeLines(f *testing.F) {
	f.Add([]byte("AAAA\r\nBBBB\r\nCC==\r\n"), 4, true)
	f.Fuzz(func(t *testing.T, raw []byte, line int, last bool) {
		if line < 4 || line > 100 || line%4 != 0 {
			return
		}
		got, err := decodeLines(raw, line, last)
		if err != nil {
			return
		}
		want, err := base64.StdEncoding.DecodeString(string(raw))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q, %v", raw, got, want, err)
		}
	})
}
