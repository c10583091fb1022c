package mls

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// hostileShort are the short names of docs/mls-validation.md.
var hostileShort = map[string]string{
	"HC": "TestHostileCommits", "HP": "TestHostileProposals", "HR": "TestHostileReferences", "HF": "TestHostileFraming",
	"HM": "TestHostilePublicMessages", "HW": "TestHostileWelcomes", "HE": "TestHostileExternalCommits", "HS": "TestHostileSuccessors",
}

// TestValidationCatalogue checks that every test, case and fuzz target that
// docs/mls-validation.md and docs/fuzzing.md name exists, and that every short
// name is explained.
func TestValidationCatalogue(t *testing.T) {
	functions, cases := map[string]string{}, map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	noError(t, err)
	inner, err := filepath.Glob("internal/*/*_test.go")
	noError(t, err)
	for _, path := range append(files, inner...) {
		source := string(must[[]byte](t)(os.ReadFile(path)))
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(source, -1) {
			functions[m[1]] = filepath.Base(filepath.Dir(path))
		}
		for _, m := range regexp.MustCompile(`\{(?:name: )?"([^"]+)", |t\.Run\("([^"]+)"`).FindAllStringSubmatch(source, -1) {
			cases[strings.ReplaceAll(m[1]+m[2], " ", "_")] = true
		}
	}
	named := 0
	for _, doc := range []string{"mls-validation.md", "fuzzing.md"} {
		text := string(must[[]byte](t)(os.ReadFile(filepath.Join("..", "docs", doc))))
		for _, m := range regexp.MustCompile("`(?:(labeled|codec)\\.)?((?:Test|Fuzz)[A-Z]\\w+)(?:/(\\w+))?`").FindAllStringSubmatch(text, -1) {
			named++
			want := "."
			if m[1] != "" {
				want = m[1]
			}
			if got, ok := functions[m[2]]; !ok || got != want {
				t.Errorf("%s names %s, which is not in that package", doc, m[0])
			}
			if m[3] != "" && !cases[m[3]] {
				t.Errorf("%s names %s, which has no such case", doc, m[0])
			}
		}
		// A list of cases goes on after the short name: HC/one, two, HP/three.
		for _, m := range regexp.MustCompile(`\b(H[A-Z])/(\w+(?:…\w*)?(?:, \w+(?:…\w*)?)*)`).FindAllStringSubmatch(text, -1) {
			if hostileShort[m[1]] == "" {
				t.Errorf("%s: short name %s is not known", doc, m[1])
			}
			for _, name := range strings.Split(m[2], ", ") {
				if hostileShort[name] != "" || strings.HasSuffix(name, "…") { // another table, or all that begin so
					continue
				}
				if named++; !cases[name] {
					t.Errorf("%s names case %q of %s, which does not exist", doc, name, hostileShort[m[1]])
				}
			}
		}
		for short, long := range hostileShort {
			if doc == "mls-validation.md" && !strings.Contains(text, short+" `"+long+"`") {
				t.Errorf("%s does not explain %s", doc, short)
			}
		}
	}
	if named < 150 {
		t.Errorf("only %d names were found in the documents", named)
	}
}
