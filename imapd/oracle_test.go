package imapd_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/internal/mime"
)

// TestOracle fetches BODY[] of every sealed message and recomputes every other
// item from it.
func TestOracle(t *testing.T) {
	messages := corpus()
	messages["large"] = attachment(700_000)
	names := slices.Sorted(maps.Keys(messages))
	for how, o := range sealings {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			for _, name := range names {
				w.deliver("INBOX", seal(messages[name], o))
			}
			c := w.login()
			c.ok("SELECT INBOX")
			for i, name := range names {
				t.Run(name, func(t *testing.T) {
					c.t = t
					oracle(t, c, i+1, messages[name])
				})
			}
			c.t = t
		})
	}
}

func oracle(t *testing.T, c *client, seq int, inner []byte) {
	whole := []byte(c.fetchLiteral(fmt.Sprintf("FETCH %d BODY.PEEK[]", seq)))
	if want := append([]byte(statusField), inner...); !bytes.Equal(whole, want) {
		t.Fatalf("BODY[] differs from the sealed message: %d octets, want %d", len(whole), len(want))
	}
	tree, err := mime.Parse(bytes.NewReader(whole), int64(len(whole)), mime.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	want := expectedItems(tree, whole)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		got := fetchItem(c, seq, name)
		if got != want[name] {
			t.Errorf("%s:\n got %.300q\nwant %.300q", name, got, want[name])
		}
	}
	// All of them in one command are the same again.
	all := slices.Sorted(maps.Keys(want))
	items := items(c.ok(fmt.Sprintf("FETCH %d (%s)", seq, strings.Join(all, " "))), seq)
	for _, name := range all {
		if got := value(items, responseName(name)); got != want[name] {
			t.Errorf("in one command, %s:\n got %.300q\nwant %.300q", name, got, want[name])
		}
	}
}

// expectedItems returns what each item must be, from the octets of BODY[].
func expectedItems(tree *mime.Part, whole []byte) map[string]string {
	env := tree.Envelope()
	lit := func(b []byte) string { return fmt.Sprintf("{%d}\r\n%s", len(b), b) }
	body := func(p *mime.Part) []byte { return whole[p.BodyOffset : p.BodyOffset+p.BodyLength] }
	head := func(p *mime.Part) []byte { return whole[p.HeaderOffset : p.HeaderOffset+p.HeaderLength] }
	want := map[string]string{
		"RFC822.SIZE":             strconv.Itoa(len(whole)),
		"ENVELOPE":                string(overlay.AppendEnvelope(nil, &env)),
		"BODYSTRUCTURE":           string(overlay.AppendBodyStructure(nil, tree.BodyStructure(), true)),
		"BODY":                    string(overlay.AppendBodyStructure(nil, tree.BodyStructure(), false)),
		"RFC822.HEADER":           lit(head(tree)),
		"BODY.PEEK[HEADER]":       lit(head(tree)),
		"BODY.PEEK[TEXT]":         lit(body(tree)),
		"BODY.PEEK[HEADER]<3.9>":  lit(head(tree)[3:min(12, len(head(tree)))]),
		"BODY.PEEK[]<0.10>":       lit(whole[:10]),
		"BODY.PEEK[]<17.65536>":   lit(whole[17:min(len(whole), 17+65536)]),
		"BODY.PEEK[]<99999999.5>": lit(nil),
		"BODY.PEEK[77]":           lit(nil),
		"BODY.PEEK[HEADER.FIELDS (SUBJECT CLOUDMLS-STATUS)]": lit(mime.HeaderFields(head(tree), []string{"Subject", "cloudmls-status"}, false)),
		"BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED)]":            lit(mime.HeaderFields(head(tree), []string{"Received"}, true)),
	}
	if n := int64(len(whole)); n > 400_000 {
		want["BODY.PEEK[]<300001.99999>"] = lit(whole[300_001:400_000])
	}
	var walk func(p *mime.Part, path string)
	walk = func(p *mime.Part, path string) {
		entity := p
		if path != "" {
			want["BODY.PEEK["+path+"]"] = lit(body(p))
			want["BODY.PEEK["+path+".MIME]"] = lit(head(p))
			want["BODY.PEEK["+path+"]<2.7>"] = lit(body(p)[min(2, len(body(p))):min(9, len(body(p)))])
			path += "."
			if p.Message {
				entity = p.Children[0]
				want["BODY.PEEK["+path+"HEADER]"] = lit(head(entity))
				want["BODY.PEEK["+path+"TEXT]"] = lit(body(entity))
				want["BODY.PEEK["+path+"HEADER.FIELDS (SUBJECT)]"] = lit(mime.HeaderFields(head(entity), []string{"SUBJECT"}, false))
			} else {
				want["BODY.PEEK["+path+"HEADER]"] = lit(nil)
			}
		}
		for i, child := range entity.Children {
			if entity.Multipart {
				walk(child, path+strconv.Itoa(i+1))
			}
		}
		if !entity.Multipart && (path == "" || p.Message) {
			want["BODY.PEEK["+path+"1]"] = lit(body(entity))
		}
	}
	walk(tree, "")
	return want
}

// items parses the FETCH response for a message.
func items(responses []string, seq int) []overlay.ResponseItem {
	for _, s := range responses {
		if rest, ok := strings.CutPrefix(s, fmt.Sprintf("* %d FETCH ", seq)); ok {
			list, err := overlay.ParseItems([]byte(strings.TrimSuffix(rest, "\r\n")))
			if err != nil {
				panic(fmt.Sprintf("parse %q: %v", s, err))
			}
			return list
		}
	}
	return nil
}

func value(list []overlay.ResponseItem, name string) string {
	if it := overlay.FindItem(list, name); it != nil {
		return string(it.Value)
	}
	return "missing"
}

// responseName is how an item is named in the response.
func responseName(item string) string {
	name := strings.Replace(item, "BODY.PEEK", "BODY", 1)
	if i := strings.LastIndexByte(name, '<'); i >= 0 {
		name = name[:i] + name[i:strings.LastIndexByte(name, '.')] + ">"
	}
	return name
}

func fetchItem(c *client, seq int, item string) string {
	return value(items(c.ok(fmt.Sprintf("FETCH %d %s", seq, item)), seq), responseName(item))
}

// TestBulkInPieces reads a large message in growing pieces, as mail programs
// do, and at random; both times the octets are those of the whole.
func TestBulkInPieces(t *testing.T) {
	inner := attachment(900_000)
	for name, o := range map[string]sealOptions{"regular": {bulk: true}, "ragged": {bulk: true, ragged: true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.deliver("INBOX", seal(inner, o))
			c := w.login()
			c.ok("SELECT INBOX")
			want := append([]byte(statusField), inner...)
			var got []byte
			for size := 65536; len(got) < len(want); size += 8192 {
				got = append(got, c.fetchLiteral(fmt.Sprintf("UID FETCH 1 (UID RFC822.SIZE BODY.PEEK[]<%d.%d>)", len(got), size))...)
			}
			if !bytes.Equal(got, want) {
				t.Fatal("pieces differ from the whole")
			}
			for _, off := range []int{len(want) - 10, 0, len(want) / 2, 5, len(want) - 100_000} {
				end := min(len(want), off+70_000)
				if got := c.fetchLiteral(fmt.Sprintf("UID FETCH 1 BODY.PEEK[]<%d.70000>", off)); got != string(want[off:end]) {
					t.Errorf("piece at %d differs", off)
				}
			}
			if w.backend.opened != 1 {
				t.Errorf("message was opened %d times", w.backend.opened)
			}
		})
	}
}
