package provider

import (
	"errors"
	"strings"
	"testing"
)

// TestEveryRow checks the list row by row, and asks for an address of each
// domain: neither web nor DNS is asked.
func TestEveryRow(t *testing.T) {
	if n := len(builtin()); n < 25 {
		t.Fatalf("%d rows", n)
	}
	names, domains, exchangers := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, r := range builtin() {
		if r.Name == "" || names[r.Name] || len(r.Domains)+len(r.MX) == 0 {
			t.Errorf("%+v: no name of its own, or no domain", r)
		}
		names[r.Name] = true
		for _, note := range r.Notes {
			if strings.HasSuffix(note, ".") || strings.Contains(note, "http://") {
				t.Errorf("%s: note %q", r.Name, note)
			}
		}
		for list, seen := range map[*[]string]map[string]bool{&r.Domains: domains, &r.MX: exchangers} {
			for _, d := range *list {
				if host, err := canonicalHost(d); err != nil || host != d || seen[d] || !strings.Contains(d, ".") {
					t.Errorf("%s: %q is no domain, or there twice", r.Name, d)
				}
				seen[d] = true
			}
		}
		for _, d := range r.Domains {
			s, err := Find(t.Context(), "someone@"+d, FindOptions{HTTP: nil, Resolver: nil})
			if r.Unsupported != "" {
				var u *UnsupportedError
				if !errors.As(err, &u) || r.IMAP+r.SMTP != "" || len(r.Auth) != 0 || strings.HasSuffix(r.Unsupported, ".") {
					t.Errorf("%s: %+v, %v", r.Name, r, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", d, err)
				continue
			}
			checkRow(t, r, s)
		}
		if r.Unsupported != "" {
			continue
		}
		a, err := parseAddress("someone@elsewhere.test")
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.settings(a, "x")
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
			continue
		}
		checkRow(t, r, s)
	}
}

func checkRow(t *testing.T, r row, s *Settings) {
	t.Helper()
	if len(s.Confirm) > 0 || s.Source == "" || len(s.Notes) != len(r.Notes) {
		t.Errorf("%s: %+v", r.Name, s)
	}
	for _, auth := range r.Auth {
		if auth != "password" && auth != "oauth2" {
			t.Errorf("%s: auth %q", r.Name, auth)
		}
	}
	for protocol, server := range map[string]Server{"IMAP": s.IMAP, "SMTP": s.SMTP} {
		want := map[string]map[int]string{"IMAP": {993: TLSImplicit, 143: TLSStartTLS}, "SMTP": {465: TLSImplicit, 587: TLSStartTLS}}[protocol][server.Port]
		host, err := canonicalHost(server.Host)
		if err != nil || host != server.Host || want == "" || server.TLS != want || !strings.HasPrefix(server.Username, "someone") {
			t.Errorf("%s, %s: %+v", r.Name, protocol, server)
		}
		if !server.PasswordAuth && !server.OAuth2 {
			t.Errorf("%s, %s: no way in", r.Name, protocol)
		}
		// Where no password is taken, and where another one is, people are told.
		if !server.PasswordAuth && !strings.Contains(strings.Join(s.Notes, " "), "OAuth2") {
			t.Errorf("%s: nobody says that OAuth2 comes later", r.Name)
		}
	}
}

func TestByExchanger(t *testing.T) {
	for host, want := range map[string]string{
		"aspmx.l.google.com": "Gmail", "x-com.mail.protection.outlook.com": "Microsoft 365", "eur.olc.protection.outlook.com": "Outlook.com",
		"mta5.am0.yahoodns.net": "Yahoo Mail", "mx.mail.gm0.yahoodns.net": "AOL Mail", "in1-smtp.messagingengine.com": "Fastmail",
		"mail.protonmail.ch": "Proton Mail", "mx00.ionos.de": "IONOS", "evilgoogle.com": "", "google.com.evil.test": "", "outlook.com": "",
	} {
		got := ""
		if r := byExchanger(host); r != nil {
			got = r.Name
		}
		if got != want {
			t.Errorf("%s is %q, want %q", host, got, want)
		}
	}
}
