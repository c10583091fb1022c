package evil

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// minSecret is the size below which a secret would be found by chance.
const minSecret = 8

// Find looks for a secret in octets that were captured: a request, a log, what a
// panic printed. It looks for it as it is, in either case of hexadecimal, in all
// base64 and base32 alphabets, percent-encoded, escaped as in JSON and Go, as a
// list of numbers, and for all of that again in whatever of the capture is
// base64 or hexadecimal itself, at every alignment. It tells how the secret was
// written, or "".
func Find(captured, secret []byte) string {
	if len(secret) < minSecret {
		panic(fmt.Sprintf("evil: a secret of %d octets cannot be searched for", len(secret)))
	}
	return find(captured, forms(secret), 0)
}

// maxNested is how many layers of encoding are taken off.
const maxNested = 3

type form struct {
	name string
	text []byte
}

func find(captured []byte, all []form, depth int) string {
	for _, f := range all {
		if bytes.Contains(captured, f.text) {
			return f.name
		}
	}
	if depth == maxNested {
		return ""
	}
	for _, run := range runs(captured, isBase64) {
		for skip := range min(4, len(run)) {
			if how := find(unbase64(run[skip:]), all, depth+1); how != "" {
				return "base64 of: " + how
			}
		}
	}
	for _, run := range runs(captured, isHex) {
		for skip := range 2 {
			b := run[skip : len(run)-(len(run)-skip)%2]
			out := make([]byte, len(b)/2)
			if _, err := hex.Decode(out, b); err != nil {
				continue
			}
			if how := find(out, all, depth+1); how != "" {
				return "hexadecimal of: " + how
			}
		}
	}
	return ""
}

func forms(secret []byte) []form {
	var all []form
	add := func(name, text string) {
		for _, f := range all {
			if string(f.text) == text {
				return
			}
		}
		all = append(all, form{name, []byte(text)})
	}
	add("as it is", string(secret))
	h := hex.EncodeToString(secret)
	add("hexadecimal", h)
	add("upper-case hexadecimal", strings.ToUpper(h))
	add("percent-encoded whole", "%"+strings.Join(pairs(strings.ToUpper(h)), "%"))
	add("escaped whole", `\x`+strings.Join(pairs(h), `\x`))
	for name, e := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		add(name, e.EncodeToString(secret))
	}
	add("base32", base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret))
	add("query-escaped", url.QueryEscape(string(secret)))
	add("path-escaped", url.PathEscape(string(secret)))
	add("numbers", numbers(secret, " "))
	add("numbers with commas", numbers(secret, ","))
	if utf8.Valid(secret) {
		add("quoted as Go does", inner(strconv.Quote(string(secret))))
		add("quoted in ASCII", inner(strconv.QuoteToASCII(string(secret))))
	}
	for _, html := range []bool{false, true} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(html)
		if err := e.Encode(string(secret)); err == nil && utf8.Valid(secret) {
			add("JSON string", inner(strings.TrimSuffix(b.String(), "\n")))
		}
	}
	return all
}

func inner(quoted string) string { return quoted[1 : len(quoted)-1] }

func pairs(h string) []string {
	var p []string
	for i := 0; i < len(h); i += 2 {
		p = append(p, h[i:i+2])
	}
	return p
}

func numbers(b []byte, sep string) string {
	var p []string
	for _, c := range b {
		p = append(p, strconv.Itoa(int(c)))
	}
	return strings.Join(p, sep)
}

// runs gives the longest pieces of b whose octets all fit, where they could hold
// a secret.
func runs(b []byte, fits func(byte) bool) [][]byte {
	var all [][]byte
	start := -1
	for i := 0; i <= len(b); i++ {
		switch {
		case i < len(b) && fits(b[i]):
			if start < 0 {
				start = i
			}
		case start >= 0:
			if i-start >= minSecret*4/3 {
				all = append(all, b[start:i])
			}
			start = -1
		}
	}
	return all
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isBase64(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '+' || c == '/' || c == '-' || c == '_'
}

// unbase64 decodes as much as there is, in either alphabet.
func unbase64(b []byte) []byte {
	s := strings.NewReplacer("-", "+", "_", "/").Replace(string(b))
	if len(s)%4 == 1 {
		s = s[:len(s)-1]
	}
	out, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil // octets that fit cannot fail, and if they did there is nothing to search
	}
	return out
}
