package mime

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var (
	update     = flag.Bool("update", false, "write testdata/dovecot.json from the server of -imap")
	imapServed = flag.String("imap", os.Getenv("CLOUDMLS_IMAP_COMMAND"), "shell command of a pre-authenticated IMAP server on standard input and output")
)

const goldenFile = "testdata/dovecot.json"

// golden is what Dovecot 2.3 answered for a message of the corpus. Numbers are
// strings; NIL is null.
type golden struct {
	Size          value `json:"size"`
	Envelope      value `json:"envelope"`
	BodyStructure value `json:"bodystructure"`
	Body          value `json:"body"`
}

func corpus(t testing.TB) (names []string, messages [][]byte) {
	files, err := filepath.Glob("testdata/corpus/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatal("no corpus:", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".eml"))
		messages = append(messages, b)
	}
	return names, messages
}

// hasBareLF says that a server which counts CRLF for every line end has other
// sizes than we, who count the octets that are there.
func hasBareLF(b []byte) bool {
	return bytes.Count(b, []byte("\n")) != bytes.Count(b, []byte("\r\n"))
}

// TestDovecot compares the corpus with a live server.
func TestDovecot(t *testing.T) {
	if *imapServed == "" {
		t.Skip("neither -imap nor CLOUDMLS_IMAP_COMMAND names a server")
	}
	names, messages := corpus(t)
	empty := slices.Index(names, "empty") // not accepted by servers
	names, messages = slices.Delete(names, empty, empty+1), slices.Delete(messages, empty, empty+1)
	s := startServer(t, *imapServed)
	if err := s.load(messages); err != nil {
		t.Fatal(err)
	}
	all := map[string]golden{}
	for i, m := range messages {
		if hasBareLF(m) {
			continue
		}
		for _, d := range s.compare(i+1, m) {
			t.Errorf("%s: %s", names[i], d)
		}
		got, err := s.fetch(i+1, "RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY")
		if err != nil {
			t.Fatal(err)
		}
		all[names[i]] = golden{got["RFC822.SIZE"], got["ENVELOPE"], got["BODYSTRUCTURE"], got["BODY"]}
	}
	if *update {
		b, err := json.MarshalIndent(all, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGolden compares the corpus with what Dovecot answered for it.
func TestGolden(t *testing.T) {
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]golden
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	names, messages := corpus(t)
	seen := 0
	for i, name := range names {
		want, ok := all[name]
		if !ok {
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			root := parse(t, messages[i])
			env, bs := root.Envelope(), root.BodyStructure()
			for _, c := range []struct {
				item      string
				got, want value
			}{
				{"size", number(root.Size()), want.Size},
				{"envelope", envelopeValue(&env), want.Envelope},
				{"bodystructure", structureValue(bs, true), want.BodyStructure},
				{"body", structureValue(bs, false), want.Body},
			} {
				if got, want := show(c.got), show(fromJSON(c.want)); got != want {
					t.Errorf("%s:\n got %s\nwant %s", c.item, got, want)
				}
			}
		})
	}
	if seen != len(all) || seen < 40 {
		t.Errorf("%d of %d golden messages are in the corpus", seen, len(all))
	}
}

func fromJSON(v value) value {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	out := make([]value, len(list))
	for i, e := range list {
		out[i] = fromJSON(e)
	}
	return out
}

func parse(t testing.TB, b []byte) *Part {
	t.Helper()
	root, err := Parse(bytes.NewReader(b), int64(len(b)), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return root
}
