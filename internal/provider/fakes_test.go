package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// certificate makes a self-signed one for some names, and the pool that trusts
// it.
func certificate(t *testing.T, notAfter time.Time, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// fakeWeb is every web server there is, by https and http, on loopback.
type fakeWeb struct {
	client *http.Client
	mu     sync.Mutex
	asked  []string // scheme://host/path?query, and the Referer if there is one
}

func newFakeWeb(t *testing.T, handler func(w http.ResponseWriter, r *http.Request, scheme string)) *fakeWeb {
	t.Helper()
	f := &fakeWeb{}
	serve := func(scheme string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			asked := scheme + "://" + r.Host + r.URL.String()
			if referer := r.Header.Get("Referer"); referer != "" {
				asked += " from " + referer
			}
			f.asked = append(f.asked, asked)
			f.mu.Unlock()
			handler(w, r, scheme)
		}
	}
	cert, pool := certificate(t, time.Now().Add(24*time.Hour), "*.example.test", "example.test", "*.hoster.test", "xn--exmple-cua.test", "*.xn--exmple-cua.test")
	secure := httptest.NewUnstartedServer(serve("https"))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	secure.StartTLS()
	plain := httptest.NewServer(serve("http"))
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	f.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			to := plain.Listener.Addr().String()
			if strings.HasSuffix(addr, ":443") {
				to = secure.Listener.Addr().String()
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	}}
	return f
}

func (f *fakeWeb) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// fakeDNS is a DNS server on loopback.
type fakeDNS struct {
	srv map[string][]dnsmessage.SRVResource // by name with the dot at the end
	mx  map[string][]dnsmessage.MXResource
	mu  sync.Mutex
	saw []string
}

// start returns a resolver that asks the server alone.
func (f *fakeDNS) start(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := f.answer(buf[:n]); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (f *fakeDNS) answer(b []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(b) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	f.mu.Lock()
	f.saw = append(f.saw, name)
	f.mu.Unlock()
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
	switch q.Type {
	case dnsmessage.TypeSRV:
		for _, r := range f.srv[name] {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &r})
		}
	case dnsmessage.TypeMX:
		for _, r := range f.mx[name] {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &r})
		}
	}
	if len(m.Answers) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

func srv(priority, weight, port uint16, target string) dnsmessage.SRVResource {
	return dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target)}
}

func mx(pref uint16, host string) dnsmessage.MXResource {
	return dnsmessage.MXResource{Pref: pref, MX: dnsmessage.MustNewName(host)}
}

func notFound(w http.ResponseWriter, r *http.Request, _ string) { http.NotFound(w, r) }

// configFile is an autoconfig file with some servers.
func configFile(servers string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><clientConfig version="1.1"><emailProvider id="example.test">
<domain>example.test</domain><displayName>Example</displayName>` + servers + `</emailProvider></clientConfig>`
}

func serverXML(element, kind, host, port, socket, username string, auth ...string) string {
	s := "<" + element + ` type="` + kind + `"><hostname>` + host + "</hostname><port>" + port + "</port><socketType>" + socket +
		"</socketType><username>" + username + "</username>"
	for _, a := range auth {
		s += "<authentication>" + a + "</authentication>"
	}
	return s + "</" + element + ">"
}

func usual(host string) string {
	return configFile(serverXML("incomingServer", "imap", "imap."+host, "993", "SSL", "%EMAILADDRESS%", "password-cleartext") +
		serverXML("outgoingServer", "smtp", "smtp."+host, "465", "SSL", "%EMAILADDRESS%", "password-cleartext"))
}
