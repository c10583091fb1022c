package config

import (
	"errors"
	"reflect"
	"strings"
)

// chapters are the comments above the tables of a fresh file, and the keys
// which are written there even if they say the default.
var chapters = map[string]struct {
	comment string
	always  []string
}{
	"listen":    {"Where mail programs connect.", []string{"imap", "smtp"}},
	"keyserver": {"The key server that holds the sealed state.", nil},
	"user":      {"The login at the key server.", nil},
	"vault":     {"Where the key lies that seals everything in data_dir.", nil},
	"log":       {"What is logged.", nil},
	"accounts":  {"A mail account. Without password_file and password_env its passwords lie in the vault.", nil},
}

// NewGatewayFile returns a fresh file, short and commented, that says what g
// says. Keys that have their defaults are left out, but for the ports that
// people look for. It is checked as [ParseGateway] does.
func NewGatewayFile(g *Gateway) ([]byte, error) {
	v := reflect.ValueOf(g).Elem()
	if err := checkText(v); err != nil {
		return nil, err
	}
	var b strings.Builder
	comment(&b, "The CloudMLS gateway. All keys: cloudmls config reference gateway")
	b.WriteString("\ndata_dir = " + tomlString(g.DataDir) + "\n")
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Tag.Get("toml"), v.Field(i)
		switch {
		case f.Kind() == reflect.Struct:
			trimmed := withoutDefaults(f, chapters[name].always)
			if isEmpty(trimmed) {
				continue
			}
			chapter(&b, name, tomlTable(name, trimmed, false))
		case f.Kind() == reflect.Slice:
			for j := range f.Len() {
				chapter(&b, name, tomlTable(name, withoutDefaults(f.Index(j), nil), true))
			}
		}
	}
	text := []byte(b.String())
	got, err := ParseGateway("new configuration", text)
	if err != nil {
		return nil, err
	}
	want, err := g.completed()
	if err != nil {
		return nil, err
	}
	if !same(reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem()) {
		return nil, errors.New("config: the new file does not say what it should")
	}
	return text, nil
}

func chapter(b *strings.Builder, name string, lines []string) {
	b.WriteByte('\n')
	comment(b, chapters[name].comment)
	b.WriteString(strings.Join(lines, "\n") + "\n")
}

// completed returns a copy of g with defaults, as parsing makes them.
func (g *Gateway) completed() (*Gateway, error) {
	own := *g
	own.Accounts = nil
	for i := range g.Accounts {
		own.Accounts = append(own.Accounts, g.Accounts[i].clone())
	}
	setDefaults(reflect.ValueOf(&own).Elem())
	c := &checks{file: "configuration", at: locate(nil)}
	c.gateway(&own)
	return &own, c.problems.sorted()
}

// withoutDefaults returns a copy of a table in which what says the default is
// zero, so that it is not written.
func withoutDefaults(v reflect.Value, always []string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	for i := range out.NumField() {
		f, tag := out.Field(i), v.Type().Field(i).Tag
		if f.Kind() == reflect.Struct {
			f.Set(withoutDefaults(f, nil))
			continue
		}
		text, ok := tag.Lookup("default")
		if !ok {
			continue
		}
		def := reflect.New(f.Type()).Elem()
		setText(def, text)
		keep := false
		for _, name := range always {
			keep = keep || name == tag.Get("toml")
		}
		switch {
		case keep && f.IsZero():
			f.Set(def)
		case !keep && f.Equal(def):
			f.SetZero()
		}
	}
	return out
}
