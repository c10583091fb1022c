package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	threatRow = regexp.MustCompile(`^\| (F?)(\d+) \| ([^|]+) \| ([^|]+) \|$`)
	named     = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	aTest     = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// notBuilt is how the page says that there is no code yet that a test could test.
const notBuilt = "not built yet"

// testsIn lists the tests and fuzz targets of a folder.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range aTest.FindAllSubmatch(b, -1) {
			tests[string(m[1])] = true
		}
	}
	return tests
}

// rowProblems says what is wrong with the tests of a row; tests gives those of a
// folder.
func rowProblems(cell string, tests func(folder string) map[string]bool) (problems []string, count int) {
	if strings.HasPrefix(cell, notBuilt) {
		return nil, 0
	}
	for part := range strings.SplitSeq(cell, "; ") {
		folder, list, ok := strings.Cut(part, ": ")
		if !ok {
			problems = append(problems, fmt.Sprintf("%q is no folder with tests", part))
			continue
		}
		in := tests(folder)
		names := named.FindAllStringSubmatch(list, -1)
		if len(names) == 0 {
			problems = append(problems, fmt.Sprintf("no test of %s is named", folder))
		}
		for _, n := range names {
			count++
			if !in[n[1]] {
				problems = append(problems, fmt.Sprintf("%s has no test %s", folder, n[1]))
			}
		}
	}
	return problems, count
}

// TestThreatTable holds docs/threats.md against the tree: all rows are there, once,
// the tests they name exist, and rows of what is built have one. What was never
// built stays a short list, which is here.
func TestThreatTable(t *testing.T) {
	unbuilt := map[string]bool{}
	for _, n := range []int{18, 46, 47, 49, 50, 51, 55, 56, 58, 71, 72, 73, 74, 79} {
		unbuilt[strconv.Itoa(n)] = true
	}
	b, err := os.ReadFile("../../docs/threats.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]map[string]bool{}
	tests := func(folder string) map[string]bool {
		if folders[folder] == nil {
			folders[folder] = testsIn(t, folder)
		}
		return folders[folder]
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		m := threatRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		row := m[1] + m[2]
		if rows[row] {
			t.Errorf("row %s is there twice", row)
		}
		rows[row] = true
		problems, count := rowProblems(m[4], tests)
		for _, p := range problems {
			t.Errorf("row %s (%s): %s", row, m[3], p)
		}
		if count == 0 && !unbuilt[row] {
			t.Errorf("row %s (%s) names no test", row, m[3])
		}
	}
	for n := 1; n <= 84; n++ {
		if !rows[strconv.Itoa(n)] {
			t.Errorf("threat %d has no row", n)
		}
	}
	for n := 1; n <= 42; n++ {
		if !rows[fmt.Sprint("F", n)] {
			t.Errorf("flaw %d has no row", n)
		}
	}
	for n := 1; n <= 19; n++ {
		found := false
		for name := range tests("cloudmls") {
			found = found || strings.HasPrefix(name, fmt.Sprintf("TestCloudMLS2022_%02d_", n))
		}
		if !found {
			t.Errorf("test %d of 2022 has no counterpart", n)
		}
	}
}

// TestThreatTableCanFail shows that rows which rot are found.
func TestThreatTableCanFail(t *testing.T) {
	tests := func(folder string) map[string]bool {
		return map[string]map[string]bool{"mls": {"TestA": true}}[folder]
	}
	for cell, good := range map[string]bool{
		"mls: `TestA`": true, "not built yet: federation": true,
		"mls: `TestB`": false, "mls: `TestA`, `TestGone`": false, "elsewhere: `TestA`": false, "mls: TestA": false, "?": false,
		"mls: `TestA`; nowhere": false,
	} {
		if problems, _ := rowProblems(cell, tests); (len(problems) == 0) != good {
			t.Errorf("%s: %v", cell, problems)
		}
	}
}
