package provider

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// maxAddress is the longest mail address (RFC 5321 section 4.5.3.1.3).
const maxAddress = 254

// address is a mail address in its parts.
type address struct {
	whole  string // as given, the domain in lower-case A-labels
	local  string
	domain string
}

func parseAddress(s string) (address, error) {
	s = strings.TrimSpace(s)
	i := strings.LastIndexByte(s, '@')
	if i < 1 || i == len(s)-1 || len(s) > maxAddress || strings.ContainsAny(s[:i], " \t\r\n\x00<>\"(),:;\\[]@") {
		return address{}, fmt.Errorf("%q is not a mail address", s)
	}
	domain, err := canonicalDomain(s[i+1:])
	if err != nil {
		return address{}, fmt.Errorf("%q is not a mail address: %w", s, err)
	}
	return address{whole: s[:i] + "@" + domain, local: s[:i], domain: domain}, nil
}

// canonicalDomain returns a domain in lower-case A-labels.
func canonicalDomain(s string) (string, error) {
	ascii, err := idna.Lookup.ToASCII(s)
	if err != nil {
		return "", errors.New("the domain is not valid")
	}
	ascii = strings.ToLower(ascii)
	if _, err := netip.ParseAddr(ascii); err == nil || !hostPattern.MatchString(ascii) {
		return "", errors.New("the domain is not valid")
	}
	return ascii, nil
}

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// canonicalHost checks the name of a server that somebody else has given.
func canonicalHost(s string) (string, error) {
	s = strings.TrimSuffix(strings.TrimSpace(s), ".")
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.String(), nil
	}
	ascii, err := idna.Lookup.ToASCII(s)
	if err != nil || len(ascii) > 253 || !hostPattern.MatchString(strings.ToLower(ascii)) {
		return "", fmt.Errorf("%.100q is not a host name", s)
	}
	return strings.ToLower(ascii), nil
}

// inDomain reports whether a host is a domain or lies below it.
func inDomain(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// isLoopback reports whether a host can only be this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// expand puts the parts of the address into a text of an autoconfig file.
func (a address) expand(s string) (string, error) {
	names := []string{"%EMAILADDRESS%", "%EMAILLOCALPART%", "%EMAILDOMAIN%"}
	values := []string{a.whole, a.local, a.domain}
	var pairs, none []string
	for i, name := range names {
		pairs, none = append(pairs, name, values[i]), append(none, name, "")
	}
	if strings.Contains(strings.NewReplacer(none...).Replace(s), "%") {
		return "", fmt.Errorf("%.100q holds a placeholder that is not known", s)
	}
	out := strings.NewReplacer(pairs...).Replace(s)
	for _, r := range out {
		if !strconv.IsPrint(r) {
			return "", errors.New("a name holds a character that cannot be shown")
		}
	}
	return out, nil
}
