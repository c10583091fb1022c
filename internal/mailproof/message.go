package mailproof

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Field is the header field of a challenge:
//
//	CloudMLS-Challenge: v1; id=<32 hex digits>; token=<base64url>; origin=<URL>
const Field = "CloudMLS-Challenge"

// Sizes of what a challenge carries, in octets.
const (
	IDSize    = 16
	TokenSize = 16
)

// Challenge is what the mail carries.
type Challenge struct {
	Origin  string // name of the key server
	Address string // whose mailbox is to be proven
	ID      []byte
	Token   []byte // token1
	Code    string // for a person, e.g. "K7X2-M9QP"
	Expires time.Time
}

// Compose writes the mail of a challenge, from a sender's address, with CRLF
// line ends. Nothing in it but the address was chosen by whoever asked for it.
func Compose(c *Challenge, from string, now time.Time) ([]byte, error) {
	host, err := hostOf(c.Origin)
	switch {
	case err != nil:
		return nil, err
	case !plainAddress(c.Address) || !plainAddress(from):
		return nil, errors.New("challenge: the address cannot stand in a header field")
	case len(c.ID) != IDSize || len(c.Token) != TokenSize:
		return nil, errors.New("challenge: id and token have 16 octets")
	}
	_, domain, _ := strings.Cut(from, "@")
	var b bytes.Buffer
	for _, line := range []string{
		"From: CloudMLS key server <" + from + ">",
		"To: <" + c.Address + ">",
		"Subject: Code " + c.Code + " for " + host,
		"Date: " + now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"),
		"Message-ID: <" + hex.EncodeToString(c.ID) + ".challenge@" + domain + ">",
		"Auto-Submitted: auto-generated",
		Field + ": v1; id=" + hex.EncodeToString(c.ID) + ";",
		" token=" + base64.RawURLEncoding.EncodeToString(c.Token) + "; origin=" + c.Origin,
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=us-ascii",
		"",
		"Somebody, probably you, is adding this address to their CloudMLS user at",
		c.Origin + ".",
		"",
		"If you run the CloudMLS gateway there is nothing to do: it answers this message",
		"by itself and you can delete it. If you were asked for a code, it is",
		"",
		"    " + c.Code,
		"",
		"It is valid until " + c.Expires.UTC().Format("15:04 MST on 2 January 2006") + ". Give it to nobody who asks for it.",
		"",
		"If this was not you, delete this message: without it nobody can prove that",
		"the address is theirs. There are no links in it, and no answer to it is read.",
	} {
		b.WriteString(line + "\r\n")
	}
	return b.Bytes(), nil
}

// hostOf is the host in the name of a key server.
func hostOf(origin string) (string, error) {
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" {
		return "", fmt.Errorf("challenge: %q is not the name of a key server", origin)
	}
	return strings.ToLower(u.Hostname()), nil
}

// plainAddress reports whether an addr-spec can stand in angle brackets as it
// is. Others, such as quoted local parts, cannot be proven by mail.
func plainAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || len(s) > 254 || strings.Contains(domain, "@") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte("<>()[],;:\\\"", c) >= 0 {
			return false
		}
	}
	return true
}

// parseField reads the value of Field, unfolded.
func parseField(value string) (id, token []byte, origin string, err error) {
	parts := strings.Split(value, ";")
	if len(parts) != 4 || strings.TrimSpace(parts[0]) != "v1" {
		return nil, nil, "", errors.New("challenge: not of version 1")
	}
	for i, name := range []string{"id=", "token=", "origin="} {
		v, ok := strings.CutPrefix(strings.TrimSpace(parts[i+1]), name)
		if !ok {
			return nil, nil, "", fmt.Errorf("challenge: %s is missing", name)
		}
		switch i {
		case 0:
			id, err = hex.DecodeString(v)
		case 1:
			token, err = base64.RawURLEncoding.Strict().DecodeString(v)
		case 2:
			origin = v
		}
		if err != nil {
			return nil, nil, "", fmt.Errorf("challenge: %s: %w", name, err)
		}
	}
	if len(id) != IDSize || len(token) != TokenSize {
		return nil, nil, "", errors.New("challenge: id and token have 16 octets")
	}
	return id, token, origin, nil
}
