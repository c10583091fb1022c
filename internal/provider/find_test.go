package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func find(t *testing.T, address string, o FindOptions) (*Settings, error) {
	t.Helper()
	s, err := Find(t.Context(), address, o)
	if (s == nil) == (err == nil) {
		t.Fatalf("Find = %+v, %v", s, err)
	}
	return s, err
}

func fullSRV() map[string][]dnsmessage.SRVResource {
	return map[string][]dnsmessage.SRVResource{
		"_imaps._tcp.example.test.":       {srv(20, 9, 993, "last.example.test."), srv(10, 1, 993, "light.example.test."), srv(10, 5, 994, "Heavy.example.test.")},
		"_submissions._tcp.example.test.": {srv(0, 0, 465, "out.example.test.")},
		"_submission._tcp.example.test.":  {srv(0, 0, 587, "never.example.test.")},
	}
}

// TestFindInOrder takes away the first answer again and again: the next one in
// the order of trust counts.
func TestFindInOrder(t *testing.T) {
	type place struct{ scheme, host, path string }
	places := []place{
		{"https", "autoconfig.example.test", autoconfigPath}, {"https", "example.test", wellKnownPath},
		{"http", "autoconfig.example.test", autoconfigPath}, {"http", "example.test", wellKnownPath},
	}
	for from := range 7 {
		web := newFakeWeb(t, func(w http.ResponseWriter, r *http.Request, scheme string) {
			i := slices.Index(places, place{scheme, r.Host, r.URL.Path})
			switch {
			case i >= from:
				_, _ = io.WriteString(w, usual(fmt.Sprintf("p%d.test", i)))
			case r.Host == "autoconfig.hoster.test":
				_, _ = io.WriteString(w, usual("hoster.test"))
			default:
				http.NotFound(w, r)
			}
		})
		dns := &fakeDNS{mx: map[string][]dnsmessage.MXResource{"example.test.": {mx(20, "mail.protonmail.ch."), mx(10, "mx1.hoster.test.")}}}
		if from <= 4 {
			dns.srv = fullSRV()
		}
		if from == 6 {
			dns.mx["example.test."] = []dnsmessage.MXResource{mx(5, "ASPMX.l.google.com.")}
		}
		s, err := find(t, "Al.Ice@example.TEST", FindOptions{HTTP: web.client, Resolver: dns.start(t), AllowHTTP: true})
		if err != nil {
			t.Fatalf("%d: %v", from, err)
		}
		want := []string{"imap.p0.test", "imap.p1.test", "imap.p2.test", "imap.p3.test", "heavy.example.test", "imap.hoster.test", "imap.gmail.com"}[from]
		if s.IMAP.Host != want || s.IMAP.Username != "Al.Ice@example.test" || s.SMTP.TLS != TLSImplicit || s.SMTP.Port != 465 {
			t.Errorf("%d: %+v, want %s", from, s, want)
		}
		if forgeable := from == 2 || from == 3 || from >= 5; (len(s.Confirm) > 0) != forgeable {
			t.Errorf("%d: to be confirmed: %v", from, s.Confirm)
		}
		if s.Source == "" {
			t.Errorf("%d: no source", from)
		}
		// Who learns the whole address: the domain's own server by https.
		for _, asked := range web.requests() {
			if strings.Contains(strings.ToLower(asked), "ice") && !strings.HasPrefix(asked, "https://autoconfig.example.test/") && !strings.HasPrefix(asked, "https://example.test/") {
				t.Errorf("%d: %s learnt the address", from, asked)
			}
		}
	}
}

func TestFindWithoutHTTP(t *testing.T) {
	web := newFakeWeb(t, func(w http.ResponseWriter, r *http.Request, scheme string) {
		if scheme == "http" {
			_, _ = io.WriteString(w, usual("evil.test"))
			return
		}
		// A redirect to http is not followed either.
		http.Redirect(w, r, "http://"+r.Host+r.URL.Path, http.StatusFound)
	})
	_, err := find(t, "a@example.test", FindOptions{HTTP: web.client, Resolver: (&fakeDNS{}).start(t)})
	var missing *NotFoundError
	if !errors.As(err, &missing) || len(missing.Tried) != 4 || missing.Partial != nil || !strings.Contains(err.Error(), "must be named by hand") ||
		!strings.Contains(err.Error(), "redirect to http refused") {
		t.Fatalf("err = %v", err)
	}
	for _, asked := range web.requests() {
		if strings.HasPrefix(asked, "http:") {
			t.Errorf("%s was asked", asked)
		}
	}
}

// TestFindTellsTheAddressLast shows that a server that answers without the
// address never gets it, and where a redirect leads neither.
func TestFindTellsTheAddressLast(t *testing.T) {
	web := newFakeWeb(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		_, _ = io.WriteString(w, usual("example.test"))
	})
	if _, err := find(t, "alice@example.test", FindOptions{HTTP: web.client, Resolver: (&fakeDNS{}).start(t)}); err != nil {
		t.Fatal(err)
	}
	for _, asked := range web.requests() {
		if strings.Contains(asked, "alice") {
			t.Errorf("%s: told for nothing", asked)
		}
	}
	web = newFakeWeb(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		switch {
		case r.Host == "autoconfig.hoster.test":
			_, _ = io.WriteString(w, usual("hoster.test"))
		case r.URL.Query().Get("emailaddress") == "alice@example.test":
			http.Redirect(w, r, "https://autoconfig.hoster.test/x", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	s, err := find(t, "alice@example.test", FindOptions{HTTP: web.client, Resolver: (&fakeDNS{}).start(t)})
	if err != nil || s.IMAP.Host != "imap.hoster.test" || len(s.Confirm) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, asked := range web.requests() {
		if strings.HasPrefix(asked, "https://autoconfig.hoster.test") && strings.Contains(asked, "alice") {
			t.Errorf("%s: the redirect told the address", asked)
		}
	}
}

func TestFindLimits(t *testing.T) {
	for name, handler := range map[string]func(w http.ResponseWriter, r *http.Request, _ string){
		"endless redirects": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		},
		"endless answer": func(w http.ResponseWriter, r *http.Request, _ string) {
			_, _ = io.WriteString(w, configFile("")[:60])
			for range 100 {
				if _, err := io.WriteString(w, strings.Repeat("<!-- x -->", 1000)); err != nil {
					return
				}
			}
		},
		"no answer": func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() },
		"a page": func(w http.ResponseWriter, _ *http.Request, _ string) {
			_, _ = io.WriteString(w, "<!DOCTYPE html><html></html>")
		},
	} {
		web := newFakeWeb(t, handler)
		dns := &fakeDNS{srv: fullSRV()}
		s, err := find(t, "a@example.test", FindOptions{HTTP: web.client, Resolver: dns.start(t), Timeout: time.Second})
		if err != nil || s.IMAP.Host != "heavy.example.test" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if n := len(web.requests()); n > 2*2*(maxRedirects+1)+2 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, "a@example.test", FindOptions{HTTP: newFakeWeb(t, notFound).client, Resolver: (&fakeDNS{}).start(t)}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestFindSRV(t *testing.T) {
	for name, c := range map[string]struct {
		srv     map[string][]dnsmessage.SRVResource
		imap    Server
		smtp    Server
		confirm int
		want    string // of the error
	}{
		"implicit is not offered": {map[string][]dnsmessage.SRVResource{
			"_imaps._tcp.example.test.":      {srv(0, 0, 0, ".")},
			"_imap._tcp.example.test.":       {srv(0, 0, 143, "i.example.test.")},
			"_submission._tcp.example.test.": {srv(0, 0, 587, "s.example.test.")},
		}, Server{"i.example.test", 143, TLSStartTLS, "a@example.test", true, false}, Server{"s.example.test", 587, TLSStartTLS, "a@example.test", true, false}, 0, ""},
		"another domain": {map[string][]dnsmessage.SRVResource{
			"_imaps._tcp.example.test.":       {srv(0, 0, 993, "imap.evil-example.test.")},
			"_submissions._tcp.example.test.": {srv(0, 0, 465, "example.test.")},
		}, Server{"imap.evil-example.test", 993, TLSImplicit, "a@example.test", true, false}, Server{"example.test", 465, TLSImplicit, "a@example.test", true, false}, 1, ""},
		"nothing is offered": {map[string][]dnsmessage.SRVResource{
			"_imaps._tcp.example.test.": {srv(0, 0, 0, ".")}, "_imap._tcp.example.test.": {srv(0, 0, 0, ".")},
			"_submissions._tcp.example.test.": {srv(0, 0, 465, "s.example.test.")},
		}, Server{}, Server{}, 0, "the domain says that it does not offer this"},
		"not a host": {map[string][]dnsmessage.SRVResource{
			"_imaps._tcp.example.test.":       {srv(0, 0, 993, `a_b\@c.`), srv(1, 0, 0, "p.example.test.")},
			"_submissions._tcp.example.test.": {srv(0, 0, 465, "s.example.test.")},
		}, Server{}, Server{}, 0, "the IMAP server must be named by hand"},
	} {
		dns := &fakeDNS{srv: c.srv}
		s, err := find(t, "a@example.test", FindOptions{HTTP: newFakeWeb(t, notFound).client, Resolver: dns.start(t)})
		if c.want != "" {
			var missing *NotFoundError
			if !errors.As(err, &missing) || missing.Partial == nil || missing.Partial.SMTP.Host != "s.example.test" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || s.IMAP != c.imap || s.SMTP != c.smtp || len(s.Confirm) != c.confirm {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestFindInternationalDomain(t *testing.T) {
	web := newFakeWeb(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Host != "autoconfig.xn--exmple-cua.test" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, configFile(
			serverXML("incomingServer", "imap", "imap.%EMAILDOMAIN%", "143", "STARTTLS", "%EMAILLOCALPART%")+
				serverXML("outgoingServer", "smtp", "exämple.test", "587", "STARTTLS", "u-%EMAILLOCALPART%")))
	})
	s, err := find(t, " älice@EXÄMPLE.test", FindOptions{HTTP: web.client, Resolver: (&fakeDNS{}).start(t)})
	if err != nil {
		t.Fatal(err)
	}
	want := &Settings{Source: "autoconfig at autoconfig.xn--exmple-cua.test (Example)",
		IMAP: Server{"imap.xn--exmple-cua.test", 143, TLSStartTLS, "älice", true, false},
		SMTP: Server{"xn--exmple-cua.test", 587, TLSStartTLS, "u-älice", true, false}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	for _, bad := range []string{"", "a", "a@", "@b", "a b@c.d", "a@[127.0.0.1]", "a@127.0.0.1", "a@b..c", "a@b/c", "a\n@b", "a@b@c", "a@" + strings.Repeat("b", 300), "a@-b"} {
		if _, err := Find(t.Context(), bad, FindOptions{}); err == nil || !strings.Contains(err.Error(), "not a mail address") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAutoconfigChoice(t *testing.T) {
	a, err := parseAddress("al@example.test")
	if err != nil {
		t.Fatal(err)
	}
	out := serverXML("outgoingServer", "smtp", "s.test", "465", "SSL", "u", "password-cleartext")
	imap := func(host, port, socket string, auth ...string) string {
		return serverXML("incomingServer", "imap", host, port, socket, "u", auth...)
	}
	for name, c := range map[string]struct {
		in, host, want string
		oauth          bool
	}{
		"implicit first":       {imap("b.test", "143", "STARTTLS", "password-cleartext") + imap("a.test", "993", "SSL", "password-cleartext"), "a.test", "", false},
		"password first":       {imap("b.test", "993", "SSL", "OAuth2") + imap("a.test", "143", "STARTTLS", "password-cleartext"), "a.test", "", false},
		"the file's order":     {imap("a.test", "993", "SSL") + imap("b.test", "993", "SSL"), "a.test", "", false},
		"OAuth2 only":          {imap("a.test", "993", "SSL", "OAuth2"), "a.test", "", true},
		"plain":                {imap("a.test", "143", "plain", "password-cleartext"), "", "offered without TLS", false},
		"plain, next one":      {imap("b.test", "143", "plain") + imap("a.test", "993", "SSL"), "a.test", "", false},
		"plain on loopback":    {imap("127.0.0.1", "1143", "plain"), "127.0.0.1", "", false},
		"POP3 only":            {serverXML("incomingServer", "pop3", "p.test", "995", "SSL", "u"), "", "no IMAP server", false},
		"port":                 {imap("a.test", "99999", "SSL"), "", "is not a port", false},
		"host":                 {imap("a.test/x", "993", "SSL"), "", "is not a host name", false},
		"socket":               {imap("a.test", "993", ""), "", "socket type", false},
		"placeholder":          {imap("%MAILHOST%", "993", "SSL"), "", "placeholder", false},
		"unknown ways":         {imap("a.test", "993", "SSL", "GSSAPI"), "", "none of its ways to sign in", false},
		"another place":        {"<x><incomingServer type='imap'><hostname>a.test</hostname></incomingServer></x>", "", "no IMAP server", false},
		"elements in elements": {"<incomingServer type='imap'><hostname>a.test<b>evil</b></hostname><port>993</port><socketType>SSL</socketType></incomingServer>", "", "is not a host name", false},
	} {
		config, err := parseAutoconfig([]byte(configFile(c.in + out)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s, err := config.settings(a, "x")
		if s == nil || s.SMTP.Host != "s.test" {
			t.Errorf("%s: %+v, %v", name, s, err)
			continue
		}
		if s.IMAP.Host != c.host || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want %s %s", name, s.IMAP, err, c.host, c.want)
		}
		if oauth := len(s.Notes) > 0 && strings.Contains(s.Notes[0], "OAuth2 only"); oauth != c.oauth {
			t.Errorf("%s: notes %q", name, s.Notes)
		}
	}
}

func TestAutoconfigLimits(t *testing.T) {
	for name, in := range map[string]string{
		"size":     configFile(strings.Repeat(" ", maxAutoconfig)),
		"depth":    configFile(strings.Repeat("<a>", maxAutoconfigDepth) + strings.Repeat("</a>", maxAutoconfigDepth)),
		"text":     configFile("<displayName>" + strings.Repeat("x", maxAutoconfigText+1) + "</displayName>"),
		"entities": `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>` + configFile("<displayName>&a;</displayName>"),
		"doctype":  "<!DOCTYPE clientConfig>" + configFile(""),
		"entity":   configFile("<displayName>&a;</displayName>"),
		"root":     "<html></html>",
		"empty":    "",
		"version":  strings.Replace(configFile(""), `"1.1"`, `"2.0"`, 1),
		"cut":      configFile("")[:80],
		"charset":  strings.Replace(configFile(""), "UTF-8", "utf-7", 1),
	} {
		if config, err := parseAutoconfig([]byte(in)); err == nil || config != nil {
			t.Errorf("%s: %+v, %v", name, config, err)
		}
	}
}

func FuzzAutoconfig(f *testing.F) {
	f.Add([]byte(usual("example.test")))
	f.Add([]byte(configFile(serverXML("incomingServer", "imap", "127.0.0.1", "1", "plain", "%EMAILLOCALPART%"))))
	f.Add([]byte("<clientConfig><emailProvider/></clientConfig></x>"))
	a, err := parseAddress("alice@example.test")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		config, err := parseAutoconfig(b)
		if err != nil {
			return
		}
		s, _ := config.settings(a, "x")
		if s == nil {
			return
		}
		for _, server := range []Server{s.IMAP, s.SMTP} {
			if server.IsZero() {
				continue
			}
			if server.TLS == TLSNone && !isLoopback(server.Host) || server.Port < 1 || server.Port > 65535 {
				t.Fatalf("%+v", server)
			}
			if host, err := canonicalHost(server.Host); err != nil || host != server.Host {
				t.Fatalf("host %q", server.Host)
			}
		}
	})
}
