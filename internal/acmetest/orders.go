package acmetest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"time"
)

// answer carries one authenticated request out.
func (d *Directory) answer(w http.ResponseWriter, kind, id, account string, payload []byte) {
	base := d.Server.URL
	if kind == "account" {
		w.Header().Set("Location", account)
		reply(w, http.StatusCreated, map[string]any{"status": "valid"})
		return
	}
	if kind == "order" && id == "" {
		d.newOrder(w, account, payload)
		return
	}
	d.mu.Lock()
	o := d.orders[id]
	d.mu.Unlock()
	if o == nil || o.account != account {
		problem(w, http.StatusNotFound, "malformed", "no such order of this account")
		return
	}
	switch kind {
	case "challenge":
		if len(payload) > 0 { // POST-as-GET has none
			err := d.prove(o)
			d.mu.Lock()
			if o.proven, o.status = "valid", "ready"; err != nil {
				o.proven, o.status, o.problem = "invalid", "invalid", err.Error()
			}
			d.mu.Unlock()
		}
		reply(w, http.StatusOK, d.challenge(id, o))
	case "authorization":
		d.mu.Lock()
		proven := o.proven
		d.mu.Unlock()
		reply(w, http.StatusOK, map[string]any{
			"status": proven, "identifier": map[string]string{"type": "dns", "value": o.host}, "challenges": []any{d.challenge(id, o)},
		})
	case "finalize":
		if err := d.issue(o, payload); err != nil {
			problem(w, http.StatusForbidden, "badCSR", err.Error())
			return
		}
		w.Header().Set("Location", base+"/order/"+id)
		reply(w, http.StatusOK, d.order(id, o))
	case "order":
		reply(w, http.StatusOK, d.order(id, o))
	case "certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		for _, der := range o.chain {
			if err := pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
				panic(err)
			}
		}
	default:
		problem(w, http.StatusNotFound, "malformed", "no such path")
	}
}

func (d *Directory) newOrder(w http.ResponseWriter, account string, payload []byte) {
	var in struct {
		Identifiers []struct{ Type, Value string }
	}
	if err := json.Unmarshal(payload, &in); err != nil || len(in.Identifiers) != 1 || in.Identifiers[0].Type != "dns" {
		problem(w, http.StatusBadRequest, "malformed", "an order is for one name of DNS")
		return
	}
	id := random()
	o := &order{account: account, host: in.Identifiers[0].Value, token: random(), status: "pending", proven: "pending"}
	d.mu.Lock()
	d.orders[id] = o
	d.mu.Unlock()
	w.Header().Set("Location", d.Server.URL+"/order/"+id)
	reply(w, http.StatusCreated, d.order(id, o))
}

func (d *Directory) order(id string, o *order) map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	base := d.Server.URL
	v := map[string]any{
		"status": o.status, "identifiers": []any{map[string]string{"type": "dns", "value": o.host}},
		"authorizations": []string{base + "/authorization/" + id}, "finalize": base + "/finalize/" + id,
	}
	if o.chain != nil {
		v["certificate"] = base + "/certificate/" + id
	}
	return v
}

func (d *Directory) challenge(id string, o *order) map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := map[string]any{"type": "tls-alpn-01", "url": d.Server.URL + "/challenge/" + id, "token": o.token, "status": o.proven}
	if o.problem != "" {
		v["error"] = map[string]string{"type": "urn:ietf:params:acme:error:unauthorized", "detail": o.problem}
	}
	return v
}

// prove is what a directory does for tls-alpn-01 (RFC 8737 section 3).
func (d *Directory) prove(o *order) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", d.dial(o.host), &tls.Config{
		ServerName: o.host, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true, // the certificate is the proof
	})
	if err != nil {
		return err
	}
	state := conn.ConnectionState()
	if err := conn.Close(); err != nil {
		return err
	}
	leaf := state.PeerCertificates[0]
	if state.NegotiatedProtocol != "acme-tls/1" || !slices.Equal(leaf.DNSNames, []string{o.host}) {
		return errors.New("the server does not speak acme-tls/1 for this name")
	}
	d.mu.Lock()
	want := sha256.Sum256([]byte(o.token + "." + d.accounts[o.account].thumbprint()))
	d.mu.Unlock()
	value, err := asn1.Marshal(want[:])
	if err != nil {
		return err
	}
	for _, e := range leaf.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && e.Critical && slices.Equal(e.Value, value) {
			return nil
		}
	}
	return errors.New("the certificate does not show the key authorization")
}

func (d *Directory) issue(o *order, payload []byte) error {
	var in struct {
		CSR string `json:"csr"`
	}
	if err := json.Unmarshal(payload, &in); err != nil {
		return err
	}
	der, err := b64.DecodeString(in.CSR)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case csr.CheckSignature() != nil:
		return errors.New("the request is not signed by its key")
	case o.status != "ready":
		return fmt.Errorf("the order is %s", o.status)
	case !slices.Equal(csr.DNSNames, []string{o.host}):
		return errors.New("the request names something else than the order")
	}
	d.issued++
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(int64(d.issued) + 1), Subject: pkix.Name{CommonName: o.host}, DNSNames: []string{o.host},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(d.lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, leaf, d.ca, csr.PublicKey, d.caKey)
	if err != nil {
		return err
	}
	o.chain, o.status = [][]byte{cert, d.ca.Raw}, "valid"
	return nil
}
