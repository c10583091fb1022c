package config

import (
	"bytes"
	"errors"
	"strings"
)

// errLayout says that a change does not fit how the document is written.
var errLayout = errors.New("the file is written in a way that cannot be changed by a program; change it by hand")

// splice replaces text[from:to].
func splice(text []byte, from, to int, with string) []byte {
	out := make([]byte, 0, len(text)-(to-from)+len(with))
	out = append(out, text[:from]...)
	out = append(out, with...)
	return append(out, text[to:]...)
}

// insertLines puts whole lines behind the line that holds the octet before
// offset i.
func (l *layout) insertLines(i int, lines ...string) []byte {
	block := strings.Join(lines, l.newline) + l.newline
	if i > 0 && l.text[i-1] != '\n' {
		i = lineEnd(l.text, i)
		if i == len(l.text) {
			return splice(l.text, i, i, l.newline+strings.TrimSuffix(block, l.newline)+l.newline)
		}
		i++
	}
	return splice(l.text, i, i, block)
}

// set writes a value at table/name, in place where the key is there already.
// name is spelled as in the tag, value is TOML.
func (l *layout) set(table where, name, value string) ([]byte, error) {
	at := table.key(name)
	p, err := l.find(at)
	if err != nil {
		return nil, err
	}
	if p != nil {
		return splice(l.text, p.value, p.end, value), nil
	}
	return l.add(table, tomlKey(name), value)
}

// add writes a new key into a table, wherever and however that stands.
func (l *layout) add(table where, key, value string) ([]byte, error) {
	if s := l.section(table); s != nil {
		indent := ""
		if s.last != nil {
			indent = l.indent(s.last.start)
		} else if s.at != "" {
			indent = l.indent(s.start)
		}
		return l.insertLines(s.end, indent+key+" = "+value), nil
	}
	inline, err := l.find(table)
	if err != nil {
		return nil, err
	}
	if inline != nil {
		return l.addInline(inline, key+" = "+value)
	}
	// Made by dotted keys: one more of them, behind the last.
	for i := len(l.pairs) - 1; i >= 0; i-- {
		p := l.pairs[i]
		behind, ok := p.dotted[table]
		if !ok {
			continue
		}
		item := string(l.text[p.start:behind]) + "." + key + " = " + value
		if p.outer != nil {
			return splice(l.text, p.end, p.end, ", "+item), nil
		}
		return l.insertLines(p.end, l.indent(p.start)+item), nil
	}
	return l.addTable(table, key, value)
}

// addTable makes a table that is not there yet, with its first key.
func (l *layout) addTable(table where, key, value string) ([]byte, error) {
	outer, name, ok := table.split()
	if !ok {
		return nil, errLayout
	}
	inline, err := l.find(outer)
	if err != nil {
		return nil, err
	}
	if inline != nil {
		return l.addInline(inline, name+" = { "+key+" = "+value+" }")
	}
	if outer == "" {
		return l.addRootTable(name, key+" = "+value), nil
	}
	header, ok := outer.header()
	if !ok || l.section(outer) == nil {
		return nil, errLayout
	}
	return l.insertLines(l.extent(outer), "", "["+header+"."+name+"]", key+" = "+value), nil
}

// addRootTable puts a table before the accounts, where people expect it.
func (l *layout) addRootTable(name, line string) []byte {
	for i, s := range l.sections {
		if i > 0 && s.at.within(where("").key("accounts")) {
			return l.insertLines(l.lead(i), "["+name+"]", line, "")
		}
	}
	return l.insertLines(len(l.text), "", "["+name+"]", line)
}

// addInline puts an item behind the last one of an inline table or array.
func (l *layout) addInline(p *pair, item string) ([]byte, error) {
	n := len(p.inner)
	if n > 0 {
		i := p.inner[n-1].end
		return splice(l.text, i, i, ", "+item), nil
	}
	open := l.text[p.value]
	if open != '{' && open != '[' {
		return nil, errLayout
	}
	if next := l.text[p.value+1]; next == '}' || next == ']' {
		item += " "
	}
	return splice(l.text, p.value+1, p.value+1, " "+item), nil
}

// addElement adds one more table to an array of tables, in the way the others
// are written. array is its path, inside outer.
func (l *layout) addElement(outer where, array, inline string, block func(header string) []string) ([]byte, error) {
	p, err := l.find(outer.key(array))
	if err != nil {
		return nil, err
	}
	if p != nil {
		return l.addInline(p, inline)
	}
	if p, err = l.find(outer); err != nil {
		return nil, err
	}
	if p != nil {
		return l.addInline(p, array+" = ["+inline+"]")
	}
	header, at := array, len(l.text)
	if outer != "" {
		prefix, ok := outer.header()
		if !ok || l.section(outer) == nil {
			return nil, errLayout
		}
		header, at = prefix+"."+array, l.extent(outer)
	}
	return l.insertLines(at, append([]string{""}, block(header)...)...), nil
}

// indent returns the blanks at the start of the line of i.
func (l *layout) indent(i int) string {
	line := l.text[lineStart(l.text, i):i]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// split returns the table around a table, and its name. The tables of the
// files have names of letters only.
func (w where) split() (outer where, name string, ok bool) {
	i := strings.LastIndexByte(string(w), '.')
	if i < 0 {
		return "", "", false
	}
	name = strings.Trim(string(w[i+1:]), `"`)
	return w[:i], name, bareKey.MatchString(name)
}

// header returns the name that a path has between brackets: without indexes.
func (w where) header() (string, bool) {
	var names []string
	for part := range strings.SplitSeq(strings.TrimPrefix(string(w), "."), ".") {
		name, _, _ := strings.Cut(part, "[")
		name = strings.Trim(name, `"`)
		if !bareKey.MatchString(name) {
			return "", false
		}
		names = append(names, name)
	}
	return strings.Join(names, "."), true
}
