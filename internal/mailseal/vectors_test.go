package mailseal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/internal/mime"
)

var update = flag.Bool("update", false, "write docs/spec/vectors/mail-format.json")

const vectorFile = "../../docs/spec/vectors/mail-format.json"

// vectors are the published ones of docs/spec/mail-format.md. In them the
// content of a control part is the control record itself, unsealed.
type vectors struct {
	Comment  string          `json:"comment"`
	Messages []vectorMessage `json:"messages"`
	Padding  []vectorPadding `json:"padding"`
	Prefixes []vectorPrefix  `json:"prefixes"`
	Refused  []vectorRefused `json:"refused"`
}

type vectorMessage struct {
	Name         string   `json:"name"`
	Inner        string   `json:"inner"`        // text, with
	Repeat       int      `json:"repeat"`       // its last line this many times
	Kind         Kind     `json:"kind"`         // of the record
	Conversation string   `json:"conversation"` // hexadecimal
	FileKey      string   `json:"file_key"`     // hexadecimal, "" if inline
	PaddedSize   int64    `json:"padded_size"`  // 0 if inline
	ChunkHashes  []string `json:"chunk_hashes"` // hexadecimal
	Record       string   `json:"record"`       // hexadecimal
	Ref          string   `json:"ref"`          // hexadecimal
	Outer        string   `json:"outer"`        // text
	PartOffsets  []int64  `json:"part_offsets"` // of the inner parts, in order
	BodyLengths  []int64  `json:"body_lengths"` // likewise
	BodyLines    []int64  `json:"body_lines"`   // likewise
}

type vectorPadding struct {
	Size   int64 `json:"size"`
	Padded int64 `json:"padded"`
}

type vectorPrefix struct {
	OuterHeader string `json:"outer_header"`
	Status      string `json:"status"`
	Prefix      string `json:"prefix"`
}

type vectorRefused struct {
	Why    string `json:"why"`
	Record string `json:"record"` // hexadecimal
}

func (v *vectorMessage) inner() []byte {
	head, last, _ := strings.Cut(v.Inner, "\r\n\r\n")
	return []byte(head + "\r\n\r\n" + strings.Repeat(last, v.Repeat))
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Messages) < 3 || len(v.Padding) < 5 || len(v.Prefixes) < 2 || len(v.Refused) < 8 {
		t.Fatal("vectors are missing")
	}
	for _, m := range v.Messages {
		t.Run(m.Name, func(t *testing.T) { checkVector(t, m) })
	}
	for _, p := range v.Padding {
		if got := paddedSize(p.Size); got != p.Padded {
			t.Errorf("%d octets become %d, want %d", p.Size, got, p.Padded)
		}
	}
	for _, p := range v.Prefixes {
		if got := string(Prefix([]byte(p.OuterHeader), p.Status)); got != p.Prefix {
			t.Errorf("prefix %q, want %q", got, p.Prefix)
		}
	}
	for _, r := range v.Refused {
		b, err := hex.DecodeString(r.Record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseControl(b); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", r.Why, err)
		}
	}
}

func checkVector(t *testing.T, v vectorMessage) {
	outer := []byte(v.Outer)
	r := bytes.NewReader(outer)
	tree, err := mime.Parse(r, r.Size(), mime.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	loc, ok := Locate(tree)
	if !ok {
		t.Fatal("not found")
	}
	record, err := DecodeControl(r, loc.Control)
	if err != nil {
		t.Fatal(err)
	}
	ref := Ref(record)
	if hex.EncodeToString(record) != v.Record || hex.EncodeToString(ref[:]) != v.Ref {
		t.Error("another record")
	}
	c, err := ParseControl(record)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.MarshalBinary(); err != nil || !bytes.Equal(again, record) {
		t.Error("written in another way", err)
	}
	bulk, err := DecodeBulk(r, loc.Bulk)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(c, bulk)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustRead(t, m), v.inner()) || m.Verify() != nil {
		t.Error("other octets")
	}
	if got := describe(v.Name, v.Inner, v.Repeat, outer, c); !sameJSON(t, got, v) {
		t.Errorf("got %+v", got)
	}
}

func sameJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// describe makes the vector of a sealed message.
func describe(name, inner string, repeat int, outer []byte, c *Control) vectorMessage {
	v := vectorMessage{
		Name: name, Inner: inner, Repeat: repeat, Kind: c.Kind, Outer: string(outer),
		Conversation: hex.EncodeToString(c.Conversation[:]), PaddedSize: c.PaddedSize, ChunkHashes: []string{},
	}
	if c.Inline == nil {
		v.FileKey = hex.EncodeToString(c.FileKey[:])
	}
	for _, h := range c.ChunkHashes {
		v.ChunkHashes = append(v.ChunkHashes, hex.EncodeToString(h[:]))
	}
	record, err := c.MarshalBinary()
	if err != nil {
		panic(err)
	}
	ref := Ref(record)
	v.Record, v.Ref = hex.EncodeToString(record), hex.EncodeToString(ref[:])
	c.Skeleton.Walk(func(p *mime.Part, _ int) {
		v.PartOffsets = append(v.PartOffsets, p.HeaderOffset)
		v.BodyLengths = append(v.BodyLengths, p.BodyLength)
		v.BodyLines = append(v.BodyLines, p.Lines)
	})
	return v
}

func writeVectors(t *testing.T) {
	t.Helper()
	const header = "From: Alice <alice@a.example>\r\nTo: Bob <bob@b.example>\r\nSubject: Grüße\r\nDate: Mon, 02 Nov 2026 10:00:00 +0100\r\nMessage-ID: <m1@a.example>\r\n"
	const mixed = header + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: two\r\n\r\ntwo\r\n--b--\r\n"
	v := vectors{Comment: "Test vectors of docs/spec/mail-format.md. The content of each control part is the control record itself, not sealed."}
	for _, m := range []struct {
		name, inner string
		repeat      int
		kind        Kind
	}{
		{"inline", header + "\r\nHello Bob\r\n", 1, KindMessage},
		{"inline, multipart", mixed, 1, KindSelf},
		{"bulk", header + "\r\n0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz..\r\n", 660, KindBlind},
	} {
		o := testOptions()
		o.Kind = m.kind
		vm := vectorMessage{Inner: m.inner, Repeat: m.repeat}
		var c *Control
		o.Control = func(b []byte) (_ []byte, err error) {
			c, err = ParseControl(b)
			return bytes.Clone(b), err
		}
		outer, _ := seal(t, vm.inner(), o)
		v.Messages = append(v.Messages, describe(m.name, m.inner, m.repeat, outer, c))
	}
	for _, n := range []int64{49153, 50000, 65536, 65537, 100000, 1 << 20, 1<<20 + 1, 12345678, 50 << 20} {
		v.Padding = append(v.Padding, vectorPadding{n, paddedSize(n)})
	}
	for _, h := range []string{untraced + traced + "\r\n", "Received: a\rb\r\nX-Spam-Level: *\r\n\tfolded\r\n"} {
		v.Prefixes = append(v.Prefixes, vectorPrefix{h, "0123456789abcdef; verified", string(Prefix([]byte(h), "0123456789abcdef; verified"))})
	}
	good, err := hex.DecodeString(v.Messages[0].Record)
	if err != nil {
		t.Fatal(err)
	}
	bulk, err := hex.DecodeString(v.Messages[2].Record)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(why string, b []byte, spoil func(b []byte) []byte) {
		v.Refused = append(v.Refused, vectorRefused{why, hex.EncodeToString(spoil(bytes.Clone(b)))})
	}
	set := func(at int, value byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = value; return b }
	}
	refuse("empty", nil, func(b []byte) []byte { return b })
	refuse("later version", good, set(0, 2))
	refuse("unknown kind", good, set(1, 9))
	refuse("unknown form", good, set(2, 3))
	refuse("size larger than the content", good, set(26, good[26]+1))
	refuse("trailing octet", good, func(b []byte) []byte { return append(b, 0) })
	refuse("cut", good, func(b []byte) []byte { return b[:len(b)-1] })
	refuse("begins with a continuation line", good, set(27, ' '))
	refuse("bulk part of another size", bulk, set(50, bulk[50]+1))
	refuse("padding of another size", bulk, set(58, bulk[58]+1))
	refuse("missing hash", bulk, func(b []byte) []byte { return b[:len(b)-32] })
	refuse("part table of another size", bulk, set(62, bulk[62]+1))
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
