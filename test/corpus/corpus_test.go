package corpus

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// TestLegal: every message can be submitted as it is, and what its name
// promises about size holds.
func TestLegal(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 75 {
		t.Errorf("%d messages, want at least 75", len(all))
	}
	names := map[string]bool{}
	var canaries []string
	for _, m := range all {
		if names[m.Name] {
			t.Errorf("%s: twice", m.Name)
		}
		names[m.Name] = true
		legal(t, m)
		if !bytes.Contains(m.Octets, []byte("\r\n\r\n")) {
			t.Errorf("%s: no end of the header", m.Name)
		}
		if len(m.Canaries) == 0 || m.Note == "" {
			t.Errorf("%s: no canary or no note", m.Name)
		}
		canaries = append(canaries, m.Canaries...)
	}
	slices.Sort(canaries)
	for i := 1; i < len(canaries); i++ {
		if strings.HasPrefix(canaries[i], canaries[i-1]) {
			t.Errorf("canary %s begins with %s", canaries[i], canaries[i-1])
		}
	}
	for size, name := range map[int]string{inline: "size-49152", inline + 1: "size-49153", spool + 1: "size-1048577"} {
		i := slices.IndexFunc(all, func(m Message) bool { return m.Name == name })
		if i < 0 || len(all[i].Octets) != size {
			t.Errorf("%s has not %d octets", name, size)
		}
	}
}

// legal checks what SMTP asks of a message.
func legal(t *testing.T, m Message) {
	t.Helper()
	if !bytes.HasSuffix(m.Octets, crlf) || bytes.IndexByte(m.Octets, 0) >= 0 {
		t.Errorf("%s: no line end at the end, or a NUL", m.Name)
	}
	for l := range bytes.SplitSeq(bytes.TrimSuffix(m.Octets, crlf), crlf) {
		if len(l) > 998 || bytes.ContainsAny(l, "\r\n") {
			t.Errorf("%s: line of %d octets, or a bare CR or LF: %.60q", m.Name, len(l), l)
		}
	}
}

// TestMutants: mutants are legal, unlike each other, and the same each time.
func TestMutants(t *testing.T) {
	one, err := Mutants(500, 1)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Mutants(500, 1)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, m := range one {
		legal(t, m)
		if seen[string(m.Octets)] || !bytes.Equal(m.Octets, two[i].Octets) {
			t.Errorf("%s occurs twice, or is another at the second time", m.Name)
		}
		seen[string(m.Octets)] = true
	}
}

// TestIndexIsComplete: no file lies beside the index.
func TestIndexIsComplete(t *testing.T) {
	all, err := stored()
	if err != nil {
		t.Fatal(err)
	}
	names, err := files()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(names) {
		t.Errorf("the index names %d messages, testdata holds %d", len(all), len(names))
	}
}
