package provider

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/internal/secret"
)

func serverAt(t *testing.T, addr, way string) Server {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return Server{Host: "localhost", Port: n, TLS: way, Username: "alice@example.org", PasswordAuth: true}
}

var right = secret.New([]byte("correct horse \" battery"))

func newProvider(t *testing.T, security mailtest.Security) *mailtest.Provider {
	return mailtest.NewT(t, mailtest.Options{Security: security, MaxMessageBytes: 1234567,
		Users: []mailtest.User{{Address: "alice@example.org", Password: right.RevealString()}}})
}

func TestCheck(t *testing.T) {
	for way, security := range map[string]mailtest.Security{TLSImplicit: mailtest.ImplicitTLS, TLSStartTLS: mailtest.StartTLS, TLSNone: mailtest.Plain} {
		p := newProvider(t, security)
		s := &Settings{IMAP: serverAt(t, p.IMAPAddr(), way), SMTP: serverAt(t, p.SMTPAddr(), way)}
		o := CheckOptions{TLSConfig: p.ClientTLS()}
		r, err := Check(t.Context(), s, right, right, o)
		if err != nil {
			t.Errorf("%s: %v", way, err)
			continue
		}
		if !r.IMAP.Has("uidplus") || r.SMTP.Size != 1234567 || !hasFold(r.SMTP.Extensions, "SMTPUTF8") || !hasFold(r.SMTP.Auth, "PLAIN") {
			t.Errorf("%s: %+v %+v", way, r.IMAP, r.SMTP)
		}
		wrong := secret.New([]byte("CANARY"))
		_, err = Check(t.Context(), s, wrong, wrong, o)
		wantProblem(t, way+" IMAP", err, "IMAP", ProblemPassword, "it said:")
		wantProblem(t, way+" SMTP", err, "SMTP", ProblemPassword, "it said: 535")
		if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("the error shows the password: %v", err)
		}
		// One of two passwords: the other check tells what it learnt.
		r, err = Check(t.Context(), s, right, wrong, o)
		if r.IMAP == nil || r.SMTP != nil {
			t.Errorf("%s: %+v", way, r)
		}
		wantProblem(t, way+" SMTP", err, "SMTP", ProblemPassword, "")
		if security == mailtest.Plain {
			continue
		}
		r, err = Check(t.Context(), s, right, right, CheckOptions{})
		wantProblem(t, way, err, "IMAP", ProblemTLSAuthority, "ca_file")
		wantProblem(t, way, err, "SMTP", ProblemTLSAuthority, "ca_file")
		if r.IMAP != nil || r.SMTP != nil {
			t.Error("facts without trust")
		}
		other := p.ClientTLS()
		other.ServerName = "imap.example.org"
		_, err = Check(t.Context(), s, right, right, CheckOptions{TLSConfig: other})
		wantProblem(t, way, err, "IMAP", ProblemTLSName, "but for localhost")
		wantProblem(t, way, err, "SMTP", ProblemTLSName, "but for localhost")
		// The other way of TLS on the port.
		if way == TLSStartTLS {
			s.IMAP.TLS, s.SMTP.TLS = TLSImplicit, TLSImplicit
			_, err = Check(t.Context(), s, right, right, o)
			wantProblem(t, way, err, "IMAP", ProblemTLS, "implicit or starttls")
			wantProblem(t, way, err, "SMTP", ProblemTLS, "implicit or starttls")
		}
	}
}

// wantProblem looks for the error of one protocol among those joined.
func wantProblem(t *testing.T, label string, err error, protocol string, want Problem, text string) {
	t.Helper()
	var list []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	} else {
		list = []error{err}
	}
	for _, err := range list {
		var e *CheckError
		if errors.As(err, &e) && e.Protocol == protocol {
			if e.Problem != want || !strings.Contains(e.Error(), text) || !strings.Contains(e.Error(), e.Addr) {
				t.Errorf("%s: %s: %v; want %s …%s…", label, e.Problem, e, want, text)
			}
			return
		}
	}
	t.Errorf("%s: %v has nothing of %s", label, err, protocol)
}

// script is a server on loopback that says a line and answers what it reads by
// the first word that matches; "" closes.
func script(t *testing.T, greeting string, answers ...string) string {
	addr, _ := recorded(t, greeting, answers...)
	return addr
}

func recorded(t *testing.T, greeting string, answers ...string) (string, func() string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		heard strings.Builder
	)
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				_, _ = conn.Write([]byte(greeting))
				in := bufio.NewScanner(conn)
				for in.Scan() {
					mu.Lock()
					heard.WriteString(in.Text() + "\n")
					mu.Unlock()
					tag, _, _ := strings.Cut(in.Text(), " ")
					answer := ""
					for i := 0; i < len(answers); i += 2 {
						if strings.Contains(in.Text(), answers[i]) {
							answer = strings.ReplaceAll(answers[i+1], "TAG", tag)
							break
						}
					}
					if answer == "" {
						return
					}
					_, _ = conn.Write([]byte(answer))
				}
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String(), func() string { mu.Lock(); defer mu.Unlock(); return heard.String() }
}

func TestCheckIMAPProblems(t *testing.T) {
	const ok = "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n"
	for name, c := range map[string]struct {
		greeting string
		answers  []string
		way      string
		want     Problem
		text     string
	}{
		"OAuth2 only":          {"* OK hi\r\n", []string{"CAPABILITY", "* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2\r\nTAG OK\r\n"}, TLSNone, ProblemOAuth2, "later release"},
		"no way in":            {"* OK hi\r\n", []string{"CAPABILITY", "* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=GSSAPI\r\nTAG OK\r\n"}, TLSNone, ProblemNoAuth, ""},
		"OAuth2 by the words":  {ok, []string{"AUTHENTICATE", "TAG NO LOGIN failed: BasicAuthBlocked\r\n"}, TLSNone, ProblemOAuth2, "it said: LOGIN failed"},
		"app password":         {ok, []string{"AUTHENTICATE", "TAG NO [ALERT] Application-specific password required\r\n"}, TLSNone, ProblemAppPassword, "security settings"},
		"terminal codes":       {ok, []string{"AUTHENTICATE", "TAG NO \x1b[31mno\r\n"}, TLSNone, ProblemPassword, "(it said: [31mno)"},
		"later":                {ok, []string{"AUTHENTICATE", "TAG NO [UNAVAILABLE] busy\r\n"}, TLSNone, ProblemTemporary, "busy"},
		"away":                 {"* BYE too many\r\n", nil, TLSNone, ProblemProtocol, "too many"},
		"SMTP":                 {"220 mail.example.org ESMTP\r\n", nil, TLSNone, ProblemProtocol, "no IMAP server"},
		"no STARTTLS":          {ok, nil, TLSStartTLS, ProblemNoStartTLS, "nothing is sent without encryption"},
		"STARTTLS refused":     {"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", []string{"STARTTLS", "TAG NO not now\r\n"}, TLSStartTLS, ProblemNoStartTLS, ""},
		"threat 76: injection": {"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", []string{"STARTTLS", "TAG OK go\r\n* OK evil\r\n"}, TLSStartTLS, ProblemNoStartTLS, ""},
		"PREAUTH":              {"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", nil, TLSStartTLS, ProblemNoStartTLS, ""},
		"hang-up":              {ok, []string{"AUTHENTICATE", ""}, TLSNone, ProblemUnreachable, ""},
	} {
		addr, heard := recorded(t, c.greeting, c.answers...)
		_, err := CheckIMAP(t.Context(), serverAt(t, addr, c.way), right, CheckOptions{})
		wantProblem(t, name, err, "IMAP", c.want, c.text)
		if c.way == TLSStartTLS && (strings.Contains(heard(), "LOGIN") || strings.Contains(heard(), "AUTHENTICATE")) {
			t.Errorf("%s: signed in without TLS: %q", name, heard())
		}
	}
}

func TestCheckSMTPProblems(t *testing.T) {
	const hi = "220 hi\r\n"
	ehlo := func(lines string) []string { return []string{"EHLO", "250-x\r\n" + lines} }
	for name, c := range map[string]struct {
		greeting string
		answers  []string
		way      string
		want     Problem
		text     string
	}{
		"OAuth2 only":          {hi, ehlo("250 AUTH XOAUTH2\r\n"), TLSNone, ProblemOAuth2, "later release"},
		"no AUTH":              {hi, ehlo("250 SIZE 5\r\n"), TLSNone, ProblemNoAuth, "465 or 587"},
		"OAuth2 by the words":  {hi, append(ehlo("250 AUTH LOGIN\r\n"), "AUTH", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.\r\n"), TLSNone, ProblemOAuth2, "535 5.7.139"},
		"app password":         {hi, append(ehlo("250 AUTH PLAIN\r\n"), "AUTH", "534-5.7.9 Application-specific password required. For more\r\n534 5.7.9 information\r\n"), TLSNone, ProblemAppPassword, ""},
		"later":                {hi, append(ehlo("250 AUTH PLAIN\r\n"), "AUTH", "454 4.7.0 try later\r\n"), TLSNone, ProblemTemporary, "454 4.7.0 try later"},
		"not here":             {hi, append(ehlo("250 AUTH PLAIN\r\n"), "AUTH", "538 5.7.11 no\r\n"), TLSNone, ProblemNoAuth, ""},
		"away":                 {"554 go away\r\n", nil, TLSNone, ProblemProtocol, "554 go away"},
		"busy":                 {"421 busy\r\n", nil, TLSNone, ProblemTemporary, "busy"},
		"IMAP":                 {"* OK IMAP\r\n", nil, TLSNone, ProblemProtocol, "no SMTP server"},
		"no STARTTLS":          {hi, ehlo("250 AUTH PLAIN\r\n"), TLSStartTLS, ProblemNoStartTLS, "nothing is sent without encryption"},
		"STARTTLS refused":     {hi, append(ehlo("250 STARTTLS\r\n"), "STARTTLS", "501 no\r\n"), TLSStartTLS, ProblemNoStartTLS, "501 no"},
		"threat 76: injection": {hi, append(ehlo("250 STARTTLS\r\n"), "STARTTLS", "220 go\r\n250 evil\r\n"), TLSStartTLS, ProblemNoStartTLS, ""},
		"IMAP, STARTTLS":       {"* OK IMAP\r\n", nil, TLSStartTLS, ProblemProtocol, ""},
		"too much":             {strings.Repeat("220-x\r\n", 20000), nil, TLSStartTLS, ProblemUnreachable, ""},
		"hang-up":              {hi, nil, TLSNone, ProblemUnreachable, ""},
	} {
		addr, heard := recorded(t, c.greeting, c.answers...)
		_, err := CheckSMTP(t.Context(), serverAt(t, addr, c.way), right, CheckOptions{})
		wantProblem(t, name, err, "SMTP", c.want, c.text)
		if c.way == TLSStartTLS && strings.Contains(heard(), "AUTH") {
			t.Errorf("%s: signed in without TLS: %q", name, heard())
		}
	}
	// LOGIN where PLAIN is missing, challenges in lower case.
	addr := script(t, hi, "EHLO", "250-x\r\n250-SIZE 77\r\n250 AUTH LOGIN\r\n", "AUTH LOGIN", "334 dXNlcm5hbWU6\r\n",
		"YWxpY2VAZXhhbXBsZS5vcmc=", "334 cGFzc3dvcmQ6\r\n", "Y29ycmVjdCBob3JzZSAiIGJhdHRlcnk=", "235 ok\r\n", "QUIT", "221 bye\r\n")
	if f, err := CheckSMTP(t.Context(), serverAt(t, addr, TLSNone), right, CheckOptions{}); err != nil || f.Size != 77 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestCheckLink(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := serverAt(t, gone.Addr().String(), TLSImplicit)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	unknown := refused
	unknown.Host = "no-such-host.test"
	dns := (&fakeDNS{}).start(t)
	// Nobody accepts here: connections stand, and nothing comes.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	silent := serverAt(t, mute.Addr().String(), TLSImplicit)
	slow := serverAt(t, mute.Addr().String(), TLSStartTLS)
	expired, pool := certificate(t, time.Now().Add(-time.Hour), "localhost")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{expired}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake() // fails, as it should
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	old := serverAt(t, ln.Addr().String(), TLSImplicit)
	for name, c := range map[string]struct {
		s    Server
		o    CheckOptions
		want Problem
		text string
	}{
		"refused":      {refused, CheckOptions{}, ProblemRefused, "nothing listens on port " + strconv.Itoa(refused.Port)},
		"no such name": {unknown, CheckOptions{Dialer: &net.Dialer{Resolver: dns}}, ProblemName, "no-such-host.test does not exist"},
		"silent":       {silent, CheckOptions{Timeout: 50 * time.Millisecond}, ProblemTimeout, "firewall"},
		"silent later": {slow, CheckOptions{Timeout: 50 * time.Millisecond}, ProblemTimeout, "firewall"},
		"expired":      {old, CheckOptions{TLSConfig: &tls.Config{RootCAs: pool}}, ProblemTLSExpired, "clock"},
	} {
		_, err := Check(t.Context(), &Settings{IMAP: c.s, SMTP: c.s}, right, right, c.o)
		wantProblem(t, name, err, "IMAP", c.want, c.text)
		wantProblem(t, name, err, "SMTP", c.want, c.text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, &Settings{IMAP: slow, SMTP: slow}, right, right, CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

// TestCheckRefusesSettings shows that nothing is dialled for them.
func TestCheckRefusesSettings(t *testing.T) {
	addr, heard := recorded(t, "* OK hi\r\n")
	good := serverAt(t, addr, TLSNone)
	for want, tune := range map[string]func(*Server) secret.Secret{
		"without TLS it must be on this machine": func(s *Server) secret.Secret { s.Host = "mail.example.org"; return right },
		"host or port is missing":                func(s *Server) secret.Secret { s.Port = 0; return right },
		"is not a way of TLS":                    func(s *Server) secret.Secret { s.TLS = "ssl"; return right },
		"the user name is missing":               func(s *Server) secret.Secret { s.Username = ""; return right },
		"the password is missing":                func(*Server) secret.Secret { return secret.Secret{} },
		"holds a line end":                       func(*Server) secret.Secret { return secret.New([]byte("a\r\nb")) },
	} {
		s := good
		password := tune(&s)
		_, err := Check(t.Context(), &Settings{IMAP: s, SMTP: s}, password, password, CheckOptions{})
		wantProblem(t, want, err, "IMAP", ProblemSettings, want)
		wantProblem(t, want, err, "SMTP", ProblemSettings, want)
	}
	if heard() != "" {
		t.Error("the server was asked")
	}
	for _, p := range []Problem{ProblemSettings, ProblemName, ProblemRefused, ProblemUnreachable, ProblemTimeout, ProblemTLSName, ProblemTLSAuthority,
		ProblemTLSExpired, ProblemTLS, ProblemNoStartTLS, ProblemProtocol, ProblemTemporary, ProblemPassword, ProblemAppPassword, ProblemOAuth2, ProblemNoAuth} {
		e := &CheckError{Protocol: "IMAP", Addr: "h:1", Problem: p, Err: errors.New("x")}
		if got := e.Error(); !strings.HasPrefix(got, "IMAP server h:1: ") || got == fmt.Sprint("IMAP server h:1: x") && p != ProblemSettings {
			t.Errorf("%s has no sentence: %s", p, got)
		}
	}
}

// Without TLS the address counts, not the name that led to it.
func TestOnThisMachine(t *testing.T) {
	for addr, want := range map[net.Addr]bool{
		&net.TCPAddr{IP: net.ParseIP("127.0.0.1")}: true, &net.TCPAddr{IP: net.ParseIP("127.8.9.1")}: true, &net.TCPAddr{IP: net.IPv6loopback}: true,
		&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}: false, &net.TCPAddr{IP: net.ParseIP("0.0.0.0")}: false, &net.TCPAddr{IP: net.ParseIP("fe80::1")}: false,
		&net.UDPAddr{IP: net.ParseIP("127.0.0.1")}: false,
	} {
		if got := onThisMachine(addr); got != want {
			t.Errorf("%v: %v, want %v", addr, got, want)
		}
	}
}
