package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep a document is nested.
const maxDepth = 16

// decode reads exactly one JSON object into v. Unknown and doubled members,
// invalid UTF-8 and octets behind the object are errors: whoever sends them
// means something that would be overlooked.
func decode(b []byte, v any) error {
	if !utf8.Valid(b) {
		return errors.New("it is not UTF-8")
	}
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return errors.New("it is not a JSON object")
	}
	if err := checkMembers(json.NewDecoder(bytes.NewReader(b)), 0); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is something behind the JSON object")
	}
	return nil
}

// checkMembers walks one value and finds doubled members. encoding/json takes
// names in any case and the last of several.
func checkMembers(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth >= maxDepth {
		return errors.New("it is nested too deeply")
	}
	seen := make(map[string]bool)
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			folded := strings.ToLower(fmt.Sprint(name))
			if seen[folded] {
				return fmt.Errorf("the member %q is there twice", folded)
			}
			seen[folded] = true
		}
		if err := checkMembers(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
