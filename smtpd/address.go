package smtpd

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of RFC 5321 section 4.5.3.1.
const (
	maxLocalPart = 64
	maxAddress   = 254
)

var (
	errAddress     = errors.New("malformed address")
	errAddressUTF8 = errors.New("address needs SMTPUTF8")
)

// wireAddress checks an address as go-smtp parsed it (quotes taken off the
// local part) and returns it in the form of the wire. Nothing that passes can
// end the command it is put into or add a parameter to it.
func wireAddress(addr string, allowUTF8 bool) (string, error) {
	at := strings.LastIndexByte(addr, '@')
	if at <= 0 || at == len(addr)-1 || len(addr) > maxAddress || at > maxLocalPart || !utf8.ValidString(addr) {
		return "", errAddress
	}
	local, domain := addr[:at], addr[at+1:]
	if !validDomain(domain) {
		return "", errAddress
	}
	for _, r := range local {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return "", errAddress
		}
	}
	if !allowUTF8 && !isASCII(addr) {
		return "", errAddressUTF8
	}
	return quoteLocal(local) + "@" + domain, nil
}

// validDomain accepts host names, also internationalised, and address
// literals.
func validDomain(domain string) bool {
	if strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]") {
		return strings.IndexFunc(domain[1:len(domain)-1], func(r rune) bool {
			return !(r == '.' || r == ':' || r == '-' || r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)))
		}) < 0
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63*4 {
			return false
		}
		for _, r := range label {
			if r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
				return false
			}
		}
	}
	return true
}

// quoteLocal puts quotes around a local part that is not a dot-string (RFC
// 5321 section 4.1.2).
func quoteLocal(local string) string {
	if isDotString(local) {
		return local
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range local {
		if r == '"' || r == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}

func isDotString(local string) bool {
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return false
		}
		for _, r := range atom {
			if r >= 0x80 || unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) {
				continue
			}
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
