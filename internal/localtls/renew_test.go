package localtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRenewOnDemand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	old := ensure(t, dir, now)
	p, err := Renew(dir, now)
	if err != nil || !p.Created || p.Authority.Equal(old.Authority) || p.Certificate.Leaf.Equal(old.Certificate.Leaf) {
		t.Fatalf("Renew = %+v, %v; want another pair", p, err)
	}
	if again := ensure(t, dir, now); !again.Authority.Equal(p.Authority) {
		t.Error("the folder holds another pair")
	}
	if b, err := os.ReadFile(p.AuthorityFile); err != nil || !bytes.Equal(b, p.AuthorityPEM()) {
		t.Errorf("ca.pem: %v", err)
	}
	if _, err := Renew(filepath.Join(t.TempDir(), "new"), now); err != nil {
		t.Errorf("a renewal where there was none: %v", err)
	}
}

// A renewal that fails leaves the pair that is there.
func TestFailedRenewalKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	old := ensure(t, dir, now)
	failed := errors.New("disk full")
	if _, err := create(dir, now, func(string, []byte) error { return failed }); !errors.Is(err, failed) {
		t.Fatalf("create = %v", err)
	}
	if again := ensure(t, dir, now); again.Created || !again.Authority.Equal(old.Authority) {
		t.Error("the old pair is gone")
	}
}

// Two processes that start at once show the same certificate.
func TestFirstPairIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		made int
		all  []*x509.Certificate
	)
	for range 8 {
		wg.Go(func() {
			p, err := Ensure(dir, now)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if p.Created {
				made++
			}
			all = append(all, p.Authority)
		})
	}
	wg.Wait()
	for _, a := range all {
		if !a.Equal(all[0]) {
			t.Error("two authorities")
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || made != 1 {
		t.Errorf("made %d pairs, the folder holds %v, %v", made, entries, err)
	}
}

func TestLoadWritesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of nothing = %v", err)
	}
	p := ensure(t, dir, now)
	if err := os.Remove(p.AuthorityFile); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(dir, now.Add(2*Lifetime)); err != nil || !got.Authority.Equal(p.Authority) {
		t.Errorf("Load of a pair that has ended = %v, %v", got, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v; want the pair alone", entries, err)
	}
	ensure(t, dir, now)
	if _, err := os.Stat(p.AuthorityFile); err != nil {
		t.Errorf("Ensure did not bring ca.pem back: %v", err)
	}
}

// A running gateway shows what another process has renewed, and goes on with
// what it has while the folder holds something broken.
func TestSourceFollows(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	shown := func() *x509.Certificate {
		c, err := s.TLSConfig().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	p, err := Renew(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	if !shown().Equal(p.Certificate.Leaf) {
		t.Error("the old certificate is shown after a renewal")
	}
	file := filepath.Join(dir, bundleName)
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !shown().Equal(p.Certificate.Leaf) {
		t.Error("a broken file took the certificate away")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if !shown().Equal(p.Certificate.Leaf) {
		t.Error("a missing file took the certificate away")
	}
	if p, err = Renew(dir, now); err != nil {
		t.Fatal(err)
	}
	if !shown().Equal(p.Certificate.Leaf) {
		t.Error("the repaired file is not shown")
	}
}

func TestFingerprint(t *testing.T) {
	p := ensure(t, t.TempDir(), now)
	sum := sha256.Sum256(p.AuthorityDER())
	got := Fingerprint(p.Authority)
	if strings.ToLower(strings.ReplaceAll(got, ":", "")) != hex.EncodeToString(sum[:]) || len(got) != 95 || strings.ToUpper(got) != got {
		t.Errorf("Fingerprint = %s", got)
	}
	if c, err := x509.ParseCertificate(p.AuthorityDER()); err != nil || !c.Equal(p.Authority) {
		t.Errorf("AuthorityDER: %v", err)
	}
}
