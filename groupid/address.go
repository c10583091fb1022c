package groupid

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of a mail address, in octets of the canonical form.
const (
	// MaxAddress is the longest address that fits the 256 octets of a path,
	// angle brackets included (RFC 5321 section 4.5.3.1.3).
	MaxAddress = 254
	// MaxDomain and MaxLabel are the limits of the DNS (RFC 1035 section 2.3.4).
	MaxDomain = 253
	MaxLabel  = 63
)

// Why an address has no canonical form.
var (
	// ErrEmpty: nothing at all, or nothing on one side of the "@".
	ErrEmpty = errors.New("address is empty or lacks its local part or domain")
	// ErrControl: NUL, CR, LF or another control character.
	ErrControl = errors.New("address contains a control character")
	// ErrSpace: white space of any kind, quoted or not.
	ErrSpace = errors.New("address contains white space")
	// ErrEncoding: octets that are not UTF-8.
	ErrEncoding = errors.New("address is not valid UTF-8")
	// ErrSyntax: no "@", several outside quotes, or a character that an
	// unquoted local part may not have.
	ErrSyntax = errors.New("address is not of the form local-part@domain")
	// ErrDomain: the domain is neither a host name nor an address literal.
	ErrDomain = errors.New("address has an invalid domain")
	// ErrTooLong: longer than MaxAddress.
	ErrTooLong = errors.New("address is too long")
)

// domainProfile maps Unicode domains to A-labels by UTS 46, non-transitional
// (IDNA 2008, RFC 5891). It validates A-labels it is given.
var domainProfile = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.BidiRule(),
	idna.StrictDomainName(false),
)

// Canonical returns the one form of a mail address that takes part in
// conversation ids: the domain as lower-case A-labels (IDNA), the local part
// with ASCII letters in lower case and otherwise untouched. Dots, plus tags,
// comments and quotes of the local part are kept: whether they matter is known
// to its domain alone. A quoted local part stays quoted.
//
// The address must be a bare addr-spec; display names, angle brackets and
// surrounding space are refused. Errors wrap one of the Err values of this
// package and never contain the address.
func Canonical(addr string) (string, error) {
	if len(addr) > 4*MaxAddress {
		return "", ErrTooLong
	}
	if err := checkCharacters(addr); err != nil {
		return "", err
	}
	local, domain, err := split(addr)
	if err != nil {
		return "", err
	}
	domain, err = canonicalDomain(domain)
	if err != nil {
		return "", err
	}
	if len(local)+1+len(domain) > MaxAddress {
		return "", ErrTooLong
	}
	return lowerASCII(local) + "@" + domain, nil
}

func checkCharacters(addr string) error {
	if addr == "" {
		return ErrEmpty
	}
	if !utf8.ValidString(addr) {
		return ErrEncoding
	}
	for _, r := range addr {
		switch {
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029':
			return ErrControl
		case unicode.IsSpace(r):
			return ErrSpace
		}
	}
	return nil
}

// split cuts at the "@" that ends the local part (RFC 5321 section 4.1.2).
func split(addr string) (local, domain string, err error) {
	end := strings.IndexByte(addr, '@')
	if addr[0] == '"' {
		end = quotedEnd(addr)
	} else if end >= 0 && strings.ContainsAny(addr[:end], `"(),:;<>[\]`) {
		return "", "", ErrSyntax
	}
	if end < 0 || end >= len(addr) || addr[end] != '@' {
		return "", "", ErrSyntax
	}
	local, domain = addr[:end], addr[end+1:]
	if local == "" || local == `""` || domain == "" {
		return "", "", ErrEmpty
	}
	if strings.Contains(domain, "@") {
		return "", "", ErrSyntax
	}
	return local, domain, nil
}

// quotedEnd returns the offset behind the closing quote of the quoted string
// that addr begins with, or -1.
func quotedEnd(addr string) int {
	for i := 1; i < len(addr); i++ {
		switch addr[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

func canonicalDomain(domain string) (string, error) {
	if domain[0] == '[' {
		return canonicalLiteral(domain)
	}
	lower := lowerASCII(domain)
	if !isASCII(lower) || hasALabel(lower) {
		mapped, err := domainProfile.ToASCII(lower)
		if err != nil {
			return "", fmt.Errorf("%w: not a domain name under IDNA", ErrDomain)
		}
		lower = mapped
	}
	if len(lower) > MaxDomain {
		return "", ErrTooLong
	}
	for label := range strings.SplitSeq(lower, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	return lower, nil
}

// canonicalLiteral handles address literals, [192.0.2.1] and [IPv6:2001:db8::1]
// (RFC 5321 section 4.1.3).
func canonicalLiteral(domain string) (string, error) {
	inner, ok := strings.CutSuffix(domain[1:], "]")
	if !ok {
		return "", ErrDomain
	}
	inner = lowerASCII(inner)
	text, v6 := strings.CutPrefix(inner, "ipv6:")
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" || ip.Is4() == v6 {
		return "", ErrDomain
	}
	if v6 {
		return "[ipv6:" + ip.String() + "]", nil
	}
	return "[" + ip.String() + "]", nil
}

func checkLabel(label string) error {
	if label == "" {
		return fmt.Errorf("%w: empty label", ErrDomain)
	}
	if len(label) > MaxLabel {
		return fmt.Errorf("%w: label longer than %d octets", ErrDomain, MaxLabel)
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%w: character that no host name has", ErrDomain)
		}
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("%w: label with a hyphen at its edge", ErrDomain)
	}
	return nil
}

func hasALabel(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if strings.HasPrefix(label, "xn--") {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// lowerASCII lowers the 26 letters and nothing else. strings.ToLower would
// also change what the domain of a non-ASCII local part may tell apart.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
