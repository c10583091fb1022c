package policy

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/imap-capabilities.md anew")

// document is where the tables of this package are shown.
const document = "../../docs/imap-capabilities.md"

// TestCapabilitiesAreDocumented holds the document against the tables. Between
// its marks it is made by go test ./imapd/policy/ -update.
func TestCapabilitiesAreDocumented(t *testing.T) {
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for name, table := range map[string]string{"capabilities": capabilityTable(), "commands": commandTable()} {
		begin, end := fmt.Sprintf("<!-- table of %s -->\n", name), fmt.Sprintf("<!-- end of %s -->\n", name)
		head, rest, ok := strings.Cut(text, begin)
		have, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no marks for the table of %s", document, name)
		}
		if have == table {
			continue
		}
		text = head + begin + table + end + tail
		if !*update {
			t.Errorf("%s: the table of %s is not that of the code: run go test ./imapd/policy/ -update", document, name)
		}
	}
	if *update {
		if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func capabilityTable() string {
	var b strings.Builder
	b.WriteString("| capability | | why |\n|---|---|---|\n")
	for _, r := range Capabilities {
		name := r.Name
		if strings.HasSuffix(name, "=") {
			name += "…"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, map[Treatment]string{Hide: "hidden", Handle: "the gateway takes part"}[r.Treatment], r.Reason)
	}
	return b.String()
}

func commandTable() string {
	names := map[Action][]string{}
	for n, a := range commands {
		names[a] = append(names[a], "`"+n+"`")
	}
	var b strings.Builder
	b.WriteString("| treated | commands |\n|---|---|\n")
	for _, row := range []struct {
		a    Action
		what string
	}{{Relay, "passed on"}, {Inspect, "passed on, unless they touch encrypted mail or upload"}, {Refuse, "refused, `NO [CANNOT]`"}} {
		slices.Sort(names[row.a])
		fmt.Fprintf(&b, "| %s | %s |\n", row.what, strings.Join(names[row.a], " "))
	}
	b.WriteString("| any other | passed on without literals, refused with `NO [CANNOT]` with one |\n")
	return b.String()
}

// TestCapabilities: what a client is shown of a provider's list.
func TestCapabilities(t *testing.T) {
	for name, want := range map[string]Treatment{
		"IDLE": Pass, "QRESYNC": Pass, "X-SOMETHING-NEW": Pass, "SORT=DISPLAY": Pass, "INPROGRESS": Pass, "X=Y": Pass,
		"utf8=accept": Hide, "COMPRESS=DEFLATE": Hide, "compress=zstd": Hide, "AUTH=XOAUTH2": Hide, "UTF8=ONLY": Hide,
		"Imap4Rev2": Hide, "LITERAL+": Handle, "PREVIEW=FUZZY": Hide, "PREVIEW": Hide, "": Pass, "=": Pass,
	} {
		if got := Capability(name); got != want {
			t.Errorf("%q is treated %d, want %d", name, got, want)
		}
	}
	got := FilterCapabilities([]string{"IMAP4rev1", "SASL-IR", "COMPRESS=DEFLATE", "APPENDLIMIT=35651584", "LITERAL-", "IDLE", "UTF8=ACCEPT"})
	if want := []string{"IMAP4rev1", "APPENDLIMIT=25957287", "IDLE", "LITERAL+"}; !slices.Equal(got, want) {
		t.Errorf("shown are %v, want %v", got, want)
	}
	seen := map[string]bool{}
	for _, r := range Capabilities {
		if r.Name != strings.ToUpper(r.Name) || r.Reason == "" || seen[r.Name] || r.Treatment == Pass {
			t.Errorf("bad row %+v", r)
		}
		seen[r.Name] = true
	}
}
