package stack

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"mime/quotedprintable"
	"strings"
	"testing"
)

// TestHolds shows that the search sees through the encodings it claims to see through.
func TestHolds(t *testing.T) {
	const canary = "CANARY-violet-otter-7319"
	text := "some words before " + canary + " and some behind, long enough to be wrapped into several lines of base64 text\r\n"
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	wrap := func(b []byte) string {
		s := base64.StdEncoding.EncodeToString(b)
		var lines []string
		for len(s) > 76 {
			lines, s = append(lines, s[:76]), s[76:]
		}
		return "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Join(append(lines, s), "\r\n") + "\r\n--boundary\r\n"
	}
	var qp bytes.Buffer
	q := quotedprintable.NewWriter(&qp)
	if _, err := q.Write([]byte(strings.ReplaceAll(text, "violet", "violet=\u00e4"))); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		stored string
		want   string
	}{
		"plain":            {text, canary},
		"base64":           {wrap([]byte(text)), canary},
		"gzip":             {"dbox header\n" + zipped.String(), canary},
		"base64 of gzip":   {wrap(zipped.Bytes()), canary},
		"base64 twice":     {wrap([]byte(wrap([]byte(text)))), canary},
		"quoted-printable": {qp.String(), "violet=\u00e4-otter-7319"},
	} {
		if held := heldBy([]byte(c.stored), []string{"CANARY-other", c.want}); len(held) != 1 || !held[c.want] {
			t.Errorf("%s: found %v, want %s", name, held, c.want)
		}
	}
	if held := heldBy([]byte(wrap([]byte("nothing of interest in this text at all"))), []string{canary}); len(held) > 0 {
		t.Error("found where it is not")
	}
}
