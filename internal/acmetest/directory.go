package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Directory is an ACME directory on loopback.
type Directory struct {
	URL string // of the directory object
	// Server is the directory's own server; its certificate is that of httptest.
	Server *httptest.Server
	// Roots trusts the certificates that are issued.
	Roots *x509.CertPool

	dial     func(host string) (addr string)
	lifetime time.Duration
	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey

	mu       sync.Mutex
	nonces   map[string]bool
	accounts map[string]*jwk // by URL
	orders   map[string]*order
	issued   int
}

type order struct {
	account string
	host    string
	token   string
	status  string // of the order: pending, ready, valid, invalid
	proven  string // of the authorization: pending, valid, invalid
	problem string
	chain   [][]byte
}

// New starts a directory. dial says where the server of a host listens, in
// place of DNS and port 443; lifetime is that of certificates.
func New(tb testing.TB, lifetime time.Duration, dial func(host string) (addr string)) *Directory {
	tb.Helper()
	d := &Directory{
		dial: dial, lifetime: lifetime, nonces: map[string]bool{}, accounts: map[string]*jwk{}, orders: map[string]*order{},
		Roots: x509.NewCertPool(),
	}
	var err error
	if d.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		tb.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &d.caKey.PublicKey, d.caKey)
	if err != nil {
		tb.Fatal(err)
	}
	if d.ca, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	d.Roots.AddCert(d.ca)
	d.Server = httptest.NewTLSServer(http.HandlerFunc(d.serve))
	d.URL = d.Server.URL + "/directory"
	tb.Cleanup(d.Server.Close)
	return d
}

// Issued counts the certificates so far.
func (d *Directory) Issued() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.issued
}

func random() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func (d *Directory) nonce() string {
	n := random()
	d.nonces[n] = true
	return n
}

func (d *Directory) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	w.Header().Set("Replay-Nonce", d.nonce())
	d.mu.Unlock()
	base := d.Server.URL
	switch {
	case r.URL.Path == "/directory":
		reply(w, http.StatusOK, map[string]any{
			"newNonce": base + "/nonce", "newAccount": base + "/account", "newOrder": base + "/order",
			"revokeCert": base + "/revoke", "keyChange": base + "/key",
		})
		return
	case r.URL.Path == "/nonce":
		w.WriteHeader(http.StatusOK)
		return
	case r.Method != http.MethodPost:
		problem(w, http.StatusMethodNotAllowed, "malformed", "only POST")
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		problem(w, http.StatusBadRequest, "malformed", err.Error())
		return
	}
	d.mu.Lock()
	account, payload, err := d.authenticate(body, base+r.URL.Path)
	d.mu.Unlock()
	if err != nil {
		problem(w, http.StatusUnauthorized, "unauthorized", err.Error())
		return
	}
	kind, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	d.answer(w, kind, id, account, payload)
}

// authenticate checks nonce, URL and signature; a new account's key is kept.
func (d *Directory) authenticate(body []byte, url string) (account string, payload []byte, err error) {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return "", nil, err
	}
	h, err := e.header()
	if err != nil {
		return "", nil, err
	}
	if !d.nonces[h.Nonce] {
		return "", nil, errors.New("the nonce is not known")
	}
	delete(d.nonces, h.Nonce)
	if h.URL != url {
		return "", nil, errors.New("url is that of another request")
	}
	k, account := h.JWK, h.KID
	if account != "" {
		k = d.accounts[account]
	}
	if k == nil {
		return "", nil, errors.New("no such account")
	}
	key, err := k.key()
	if err != nil {
		return "", nil, err
	}
	if payload, err = e.open(key); err != nil {
		return "", nil, err
	}
	if account == "" {
		if !strings.HasSuffix(url, "/account") {
			return "", nil, errors.New("only a new account names its key")
		}
		account = d.Server.URL + "/account/" + k.thumbprint()
		d.accounts[account] = k
	}
	return account, payload, nil
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err) // of a test
	}
}

func problem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail}); err != nil {
		panic(err)
	}
}
