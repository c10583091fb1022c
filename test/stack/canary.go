package stack

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FindCanaries walks the folders and reports, per canary, the files in which it
// occurs: as it stands, or under any nesting (to depth 3) of base64,
// quoted-printable and gzip.
func FindCanaries(t testing.TB, canaries []string, folders ...string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	files := 0
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if os.IsNotExist(err) {
					return nil // a queue or lock file that has gone meanwhile
				}
				return err
			}
			if !d.Type().IsRegular() {
				return nil
			}
			b, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				return nil
			} else if err != nil {
				return err
			}
			files++
			for c := range heldBy(b, canaries) {
				found[c] = append(found[c], path)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("canary search in %s: %v", folder, err)
		}
	}
	if files == 0 {
		t.Fatalf("canary search looked at no file in %v", folders)
	}
	return found
}

// depth is how many encodings, one inside the other, the search sees through.
const depth = 3

// heldBy gives the canaries that b, or something encoded in it, contains. Every
// decoding is made once, whatever the number of canaries.
func heldBy(b []byte, canaries []string) map[string]bool {
	held := map[string]bool{}
	common := []byte(commonPrefix(canaries))
	var search func(b []byte, depth int)
	search = func(b []byte, depth int) {
		if bytes.Contains(b, common) {
			for _, c := range canaries {
				if bytes.Contains(b, []byte(c)) {
					held[c] = true
				}
			}
		}
		if depth > 0 {
			for _, inner := range decodings(b) {
				search(inner, depth-1)
			}
		}
	}
	search(b, depth)
	return held
}

// commonPrefix is what all words begin with: where it is missing, all are.
func commonPrefix(words []string) string {
	if len(words) == 0 {
		return ""
	}
	p := words[0]
	for _, w := range words {
		for !strings.HasPrefix(w, p) {
			p = p[:len(p)-1]
		}
	}
	return p
}

// decodings returns what may be encoded in b: gzip members at any offset, runs
// of base64 lines, and the whole as quoted-printable.
func decodings(b []byte) [][]byte {
	var out [][]byte
	for rest, at := b, 0; ; {
		i := bytes.Index(rest, []byte{0x1f, 0x8b, 0x08})
		if i < 0 {
			break
		}
		at += i
		if z, err := gzip.NewReader(bytes.NewReader(b[at:])); err == nil {
			inner, _ := io.ReadAll(io.LimitReader(z, 64<<20)) // a truncated member still shows its beginning
			if len(inner) > 0 {
				out = append(out, inner)
			}
		}
		at++
		rest = b[at:]
	}
	out = append(out, base64Runs(b)...)
	if inner := quotedPrintable(b); len(inner) != len(b) {
		out = append(out, inner)
	}
	return out
}

// quotedPrintable decodes what looks like quoted-printable and keeps the rest,
// so that one odd octet in a mailbox file hides nothing.
func quotedPrintable(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '=' {
			rest := b[i+1:]
			if bytes.HasPrefix(rest, []byte("\r\n")) {
				i += 2
				continue
			}
			if bytes.HasPrefix(rest, []byte("\n")) {
				i++
				continue
			}
			if v, err := hex.DecodeString(string(rest[:min(2, len(rest))])); err == nil && len(v) == 1 {
				out = append(out, v[0])
				i += 2
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

// base64Runs decodes every maximal run of base64 characters, line breaks
// between full lines included, of 16 characters or more.
func base64Runs(b []byte) [][]byte {
	var out [][]byte
	var run []byte
	flush := func() {
		if len(run) >= 16 {
			for skip := range 4 { // the run may begin with a word that is not part of it
				s := run[min(skip, len(run)):]
				s = s[:len(s)/4*4]
				inner := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
				n, _ := base64.StdEncoding.Decode(inner, s)
				if n > 8 {
					out = append(out, inner[:n])
				}
			}
		}
		run = run[:0]
	}
	for _, c := range b {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/':
			run = append(run, c)
		case c == '=':
			run = append(run, c)
		case c == '\r' || c == '\n':
			// a line break inside base64
		default:
			flush()
		}
	}
	flush()
	return out
}
