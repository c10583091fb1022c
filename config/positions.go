package config

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// positions knows the line of every key of a document, by its path such as
// accounts[0].imap.port.
type positions struct {
	lines  map[string]int
	keys   []located // in the order of the document
	breaks []int     // offsets of line ends
}

// located is one key of a document.
type located struct {
	path  string   // with indexes
	parts []string // without
	line  int
}

// maxDepth bounds how deep the walk goes. The files have five levels; what lies
// deeper is inside something unknown, which is reported further up.
const maxDepth = 16

// place is where the walk is: inside the table of that path.
type place struct {
	path  string
	parts []string
	depth int
}

func (p place) key(name string) place {
	if p.depth >= maxDepth {
		return p
	}
	return place{join(p.path, name), append(slices.Clip(p.parts), name), p.depth + 1}
}

func (p place) index(i int) place {
	return place{fmt.Sprintf("%s[%d]", p.path, i), p.parts, p.depth + 1}
}

// locate walks a document. It must have been decoded before: errors in it are
// not reported again.
func locate(b []byte) *positions {
	p := &positions{lines: make(map[string]int)}
	for i, c := range b {
		if c == '\n' {
			p.breaks = append(p.breaks, i)
		}
	}
	var (
		parser unstable.Parser
		table  place
		counts = make(map[string]int) // of tables in arrays, by path
	)
	parser.Reset(b)
	for parser.NextExpression() {
		e := parser.Expression()
		switch e.Kind {
		case unstable.Table:
			table = p.header(e, counts, false)
		case unstable.ArrayTable:
			table = p.header(e, counts, true)
		case unstable.KeyValue:
			p.keyValue(e, table)
		}
	}
	return p
}

// header returns the place that a [table] or [[table]] opens.
func (p *positions) header(e *unstable.Node, counts map[string]int, array bool) place {
	var at place
	for it := e.Key(); it.Next(); {
		name := it.Node()
		at = at.key(string(name.Data))
		if array && !name.Next().Valid() {
			counts[at.path]++
		}
		if n := counts[at.path]; n > 0 {
			at = at.index(n - 1)
		}
		p.note(at, name.Raw)
	}
	return at
}

func (p *positions) keyValue(e *unstable.Node, at place) {
	for it := e.Key(); it.Next(); {
		at = at.key(string(it.Node().Data))
		p.note(at, it.Node().Raw)
	}
	p.value(e.Value(), at)
}

// value looks into arrays and inline tables.
func (p *positions) value(v *unstable.Node, at place) {
	if at.depth >= maxDepth {
		return
	}
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			p.keyValue(it.Node(), at)
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); {
			element := it.Node()
			if element.Kind == unstable.Comment {
				continue
			}
			sub := at.index(i)
			if element.Raw.Length > 0 {
				p.note(sub, element.Raw)
			}
			p.value(element, sub)
			i++
		}
	}
}

func (p *positions) note(at place, raw unstable.Range) {
	if _, known := p.lines[at.path]; known {
		return
	}
	line := 1 + sort.SearchInts(p.breaks, int(raw.Offset))
	p.lines[at.path] = line
	p.keys = append(p.keys, located{at.path, at.parts, line})
}

// line returns the line of a key, or of the closest table around it, or 0.
func (p *positions) line(path string) int {
	for path != "" {
		if n, ok := p.lines[path]; ok {
			return n
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 0
		}
		path = path[:i]
	}
	return 0
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// closest returns the candidate that was probably meant, or "".
func closest(word string, candidates []string) string {
	const longest = 64 // keys are shorter
	if len(word) > longest {
		return ""
	}
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := distance(strings.ToLower(word), c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours between two words.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
