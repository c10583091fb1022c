package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// byteOrderMark is put in front of files by some editors.
const byteOrderMark = "\ufeff"

// MaxFile bounds a configuration file.
const MaxFile = 1 << 20

// LoadGateway reads and checks the gateway's file. What is wrong with it is
// reported as Problems.
func LoadGateway(name string) (*Gateway, error) {
	b, err := read(name)
	if err != nil {
		return nil, err
	}
	return ParseGateway(name, b)
}

// LoadKeyServer reads and checks the key server's file. What is wrong with it
// is reported as Problems.
func LoadKeyServer(name string) (*KeyServerFile, error) {
	b, err := read(name)
	if err != nil {
		return nil, err
	}
	return ParseKeyServer(name, b)
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return b, nil
}

// ParseGateway is LoadGateway for octets in memory; name stands in errors.
func ParseGateway(name string, b []byte) (*Gateway, error) {
	g := &Gateway{}
	c := parse(name, b, g)
	if c.ok {
		c.gateway(g)
	}
	if err := c.problems.sorted(); err != nil {
		return nil, err
	}
	return g, nil
}

// ParseKeyServer is LoadKeyServer for octets in memory; name stands in errors.
func ParseKeyServer(name string, b []byte) (*KeyServerFile, error) {
	k := &KeyServerFile{}
	c := parse(name, b, k)
	if c.ok {
		c.keyServer(k)
	}
	if err := c.problems.sorted(); err != nil {
		return nil, err
	}
	return k, nil
}

// parse decodes a document into a configuration with its defaults. The checks
// may go on if ok is set.
func parse(name string, b []byte, into any) *checks {
	c := decode(name, b, into)
	if c.ok {
		setDefaults(reflect.ValueOf(into).Elem())
	}
	return c
}

// unquoted says what is missing where a line of a broken document has a text
// without quotes for its value.
func unquoted(b []byte, line int) string {
	lines := bytes.Split(b, []byte("\n"))
	if line < 1 || line > len(lines) {
		return ""
	}
	_, value, ok := bytes.Cut(lines[line-1], []byte("="))
	value = bytes.TrimSpace(value)
	if !ok || len(value) == 0 || bytes.ContainsAny(value, "\"'[]{}") {
		return ""
	}
	return "; a text stands in quotes, as in key = \"text\""
}

// decode is parse without the defaults.
func decode(name string, b []byte, into any) *checks {
	c := &checks{file: name}
	if len(b) > MaxFile {
		c.problems = append(c.problems, Problem{File: name, Text: fmt.Sprintf("the file is larger than %d octets", MaxFile)})
		return c
	}
	b = bytes.TrimPrefix(b, []byte(byteOrderMark))
	decoder := toml.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	var (
		unknown *toml.StrictMissingError
		broken  *toml.DecodeError
	)
	switch {
	case err == nil, errors.As(err, &unknown):
	case errors.As(err, &broken):
		line, _ := broken.Position()
		c.problems = append(c.problems, Problem{
			File: name, Line: line, Key: strings.Join(broken.Key(), "."), Text: plainText(broken.Error()) + unquoted(b, line),
		})
		return c
	default:
		c.problems = append(c.problems, Problem{File: name, Text: plainText(err.Error())})
		return c
	}
	c.at = locate(b)
	if unknown != nil {
		c.unknown(unknown, reflect.TypeOf(into).Elem())
	}
	c.ok = true
	return c
}

// plainText takes the library's prefix and Go's types out of an error.
func plainText(s string) string {
	s = strings.TrimPrefix(s, "toml: ")
	if i := strings.Index(s, " into struct field "); i >= 0 {
		s = s[:i] + ": another type is expected here"
	}
	return s
}

// inlineSecrets are keys that people try; the answer is where secrets belong.
var inlineSecrets = map[string]bool{"password": true, "pass": true, "passwd": true, "secret": true, "token": true}

// unknown reports keys that mean nothing. The decoder's own list lacks the
// indexes and, inside inline tables, parts of the path.
func (c *checks) unknown(list *toml.StrictMissingError, root reflect.Type) {
	found := make(map[string]bool)
	for _, k := range c.at.keys {
		n := len(k.parts)
		parent := typeAt(root, k.parts[:n-1])
		if parent == nil || typeAt(root, k.parts) != nil {
			continue // inside something unknown, or known
		}
		if !found[k.path] {
			c.problems = append(c.problems, Problem{
				File: c.file, Line: k.line, Key: k.path, Text: unknownText(k.parts[n-1], fieldNames(parent)),
			})
		}
		found[k.path] = true
	}
	if len(found) > 0 {
		return
	}
	for i := range list.Errors {
		line, _ := list.Errors[i].Position()
		c.problems = append(c.problems, Problem{
			File: c.file, Line: line, Key: strings.Join(list.Errors[i].Key(), "."), Text: "unknown key",
		})
	}
}

func unknownText(name string, known []string) string {
	if inlineSecrets[strings.ToLower(name)] {
		return "secrets do not stand in this file; name the file (password_file) or the environment variable (password_env) that holds it"
	}
	if meant := closest(name, known); meant != "" {
		return fmt.Sprintf("unknown key; did you mean %s?", meant)
	}
	if len(known) > 0 {
		return "unknown key; possible are " + strings.Join(known, ", ")
	}
	return "unknown key"
}

// typeAt returns the type that a key names, or nil.
func typeAt(t reflect.Type, key []string) reflect.Type {
	for _, part := range key {
		for t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			field, ok := fieldNamed(t, part)
			if !ok {
				return nil
			}
			t = field.Type
		default:
			return nil
		}
	}
	for t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

func fieldNamed(t reflect.Type, name string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if strings.EqualFold(t.Field(i).Tag.Get("toml"), name) { // as the decoder does
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}

func fieldNames(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("toml"))
	}
	return names
}

// setDefaults fills zero fields from their default tags, at every level.
func setDefaults(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			setDefaults(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Field(i)
			if text, ok := v.Type().Field(i).Tag.Lookup("default"); ok && field.IsZero() {
				setText(field, text)
			}
			setDefaults(field)
		}
	}
}

// setText sets a field from the text of its tag. A tag that does not fit is a
// mistake in this package, which its tests find.
func setText(field reflect.Value, text string) {
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		field.SetBool(text == "true")
	case reflect.Int, reflect.Int64:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			field.SetInt(n)
		}
	}
}
