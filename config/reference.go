package config

import (
	"fmt"
	"reflect"
	"strings"
)

// GatewayReference returns an annotated sample of the gateway's file. It
// parses; what has a default or is optional is commented out.
func GatewayReference() string {
	return reference("Configuration of the CloudMLS gateway.", reflect.TypeFor[Gateway]())
}

// KeyServerReference returns an annotated sample of the key server's file.
func KeyServerReference() string {
	return reference("Configuration of a CloudMLS key server.", reflect.TypeFor[KeyServerFile]())
}

func reference(title string, t reflect.Type) string {
	var b strings.Builder
	comment(&b, title+" Lines that start with # followed by a key show its default or an example.")
	table(&b, t, "")
	return b.String()
}

// table prints the plain keys of a table, then the tables inside it: TOML
// wants them in this order.
func table(b *strings.Builder, t reflect.Type, path string) {
	for i := range t.NumField() {
		if f := t.Field(i); !isTable(f.Type) {
			b.WriteByte('\n')
			comment(b, f.Tag.Get("doc"))
			b.WriteString(sample(f) + "\n")
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !isTable(f.Type) {
			continue
		}
		name := join(path, f.Tag.Get("toml"))
		b.WriteByte('\n')
		comment(b, f.Tag.Get("doc"))
		switch f.Type.Kind() {
		case reflect.Slice:
			b.WriteString("[[" + name + "]]\n")
			table(b, f.Type.Elem(), name)
		case reflect.Struct:
			b.WriteString("[" + name + "]\n")
			table(b, f.Type, name)
		case reflect.Map:
			b.WriteString("[" + name + "]\n# " + f.Tag.Get("example") + "\n")
		}
	}
}

// isTable reports whether a field is written as a table of its own.
func isTable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.Struct
	}
	return false
}

// sample is the line of one key: set if it is required, a comment otherwise.
func sample(f reflect.StructField) string {
	name := f.Tag.Get("toml")
	value, isExample := f.Tag.Lookup("example")
	if text, ok := f.Tag.Lookup("default"); ok {
		value, isExample = text, false
	}
	switch f.Type.Kind() {
	case reflect.String:
		value = fmt.Sprintf("%q", value)
	case reflect.Slice:
		isExample = false
	case reflect.Int, reflect.Int64:
		if value == "" {
			value = "0"
		}
	}
	if isExample {
		return name + " = " + value
	}
	return "# " + name + " = " + value
}

// comment prints text as comment lines of at most 76 characters.
func comment(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 76 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
