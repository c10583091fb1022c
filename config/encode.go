package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// tomlKey is a key as it stands in a document.
func tomlKey(name string) string {
	if bareKey.MatchString(name) {
		return name
	}
	return tomlString(name)
}

// tomlString is a basic string (TOML 1.0).
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// tomlValue is a value on one line. Fields of structs that are zero are left
// out.
func tomlValue(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return tomlString(v.String())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			items = append(items, tomlValue(v.Index(i)))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		var items []string
		m := v.Interface().(map[string]string) // the only kind there is
		for _, k := range slices.Sorted(maps.Keys(m)) {
			items = append(items, tomlKey(k)+" = "+tomlString(m[k]))
		}
		return inlineTable(items)
	case reflect.Struct:
		var items []string
		for i := range v.NumField() {
			if f := v.Field(i); !isEmpty(f) {
				items = append(items, v.Type().Field(i).Tag.Get("toml")+" = "+tomlValue(f))
			}
		}
		return inlineTable(items)
	}
	panic("config: no TOML for " + v.Type().String())
}

func inlineTable(items []string) string {
	if len(items) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(items, ", ") + " }"
}

func isEmpty(v reflect.Value) bool {
	return v.IsZero() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}

// tomlTable returns the lines of a table: header, plain keys, then the tables
// inside it, each after a blank line. What is zero is left out.
func tomlTable(header string, v reflect.Value, array bool) []string {
	open, shut := "[", "]"
	if array {
		open, shut = "[[", "]]"
	}
	lines := []string{open + header + shut}
	rt := v.Type()
	if v.Kind() == reflect.Map {
		m := v.Interface().(map[string]string)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			lines = append(lines, tomlKey(k)+" = "+tomlString(m[k]))
		}
		return lines
	}
	for i := range rt.NumField() {
		if f := v.Field(i); !isTable(rt.Field(i).Type) && !isEmpty(f) {
			lines = append(lines, rt.Field(i).Tag.Get("toml")+" = "+tomlValue(f))
		}
	}
	for i := range rt.NumField() {
		f := v.Field(i)
		if !isTable(rt.Field(i).Type) || isEmpty(f) {
			continue
		}
		name := header + "." + rt.Field(i).Tag.Get("toml")
		if f.Kind() != reflect.Slice {
			lines = append(append(lines, ""), tomlTable(name, f, false)...)
			continue
		}
		for j := range f.Len() {
			lines = append(append(lines, ""), tomlTable(name, f.Index(j), true)...)
		}
	}
	return lines
}

// checkText refuses strings that TOML cannot hold.
func checkText(v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return errors.New("a value is not valid UTF-8")
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := checkText(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := errors.Join(checkText(it.Key()), checkText(it.Value())); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := checkText(v.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}
