package setup

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// confirming answers questions of yes and no.
type confirming struct {
	person
	yes   bool
	asked []string
}

func (c *confirming) Confirm(question string, _ bool) (bool, error) {
	c.asked = append(c.asked, question)
	return c.yes, nil
}

// What the DNS alone says can be forged: no password goes there before a person
// has agreed, and where nobody can be asked none goes there at all.
func TestDoubtfulServersAreConfirmed(t *testing.T) {
	for name, c := range map[string]struct {
		asker   Asker
		doubt   string
		refused string
	}{
		"no doubt":          {nil, "", ""},
		"nobody to ask":     {nil, "the DNS names mail.evil.test", "if these servers are right"},
		"a person says no":  {&confirming{}, "the DNS names mail.evil.test", "name the right servers"},
		"a person says yes": {&confirming{yes: true}, "the DNS names mail.evil.test", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &run{Options: Options{
				Asker: c.asker, Progress: func(string, ...any) {},
				Find: func(context.Context, string) (*Found, error) {
					s := Server{Host: "mail.evil.test", Port: 993, TLS: "implicit"}
					return &Found{IMAP: s, SMTP: s, Source: "SRV records", Doubt: c.doubt}, nil
				},
			}}
			r.account.Address = "alice@a.test"
			err := r.find(t.Context())
			if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
				t.Errorf("error %v, want %q", err, c.refused)
			}
			if p, ok := c.asker.(*confirming); ok && (len(p.asked) != 1 || !strings.Contains(p.asked[0], c.doubt)) {
				t.Errorf("asked %q", p.asked)
			}
		})
	}
}

// A provider that cannot be used is said before a password is asked for.
func TestRefusedProvider(t *testing.T) {
	r := &run{Options: Options{Progress: func(string, ...any) {}, Find: func(context.Context, string) (*Found, error) {
		return &Found{Refused: "it takes OAuth2 only"}, nil
	}}}
	if err := r.find(t.Context()); err == nil || errors.Unwrap(err) != nil || err.Error() != "it takes OAuth2 only" {
		t.Errorf("error %v", err)
	}
}
