package keyapi

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func testIdentity() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

func signedCert(t testing.TB) *LeafCert {
	t.Helper()
	c := &LeafCert{
		Platform: "email", AccountID: "alice@example.org", LeafKey: bytes.Repeat([]byte{9}, 32),
		Suite: 1, NotBefore: 1_700_000_000, NotAfter: 1_710_000_000,
	}
	if err := c.Sign(testIdentity()); err != nil {
		t.Fatal(err)
	}
	return c
}

func encoded(t testing.TB) []byte {
	t.Helper()
	b, err := signedCert(t).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vector of docs/spec/keyserver-api.md: seed 07…07, leaf key 09…09.
func TestLeafCertVector(t *testing.T) {
	const want = "010807" + "0005656d61696c" + "0011616c696365406578616d706c652e6f7267" +
		"0020ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c" +
		"00200909090909090909090909090909090909090909090909090909090909090909" +
		"0001" + "000000006553f100" + "0000000065ec8780" + "0040"
	got := hex.EncodeToString(encoded(t))
	if len(got) != len(want)+128 || !strings.HasPrefix(got, want) {
		t.Errorf("got  %s\nwant %s and a signature", got, want)
	}
}

func TestLeafCertRoundTrip(t *testing.T) {
	c, err := ParseLeafCert(encoded(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
	if c.Account() != (Account{Platform: "email", ID: "alice@example.org"}) || c.Suite != 1 {
		t.Errorf("read back %+v", c)
	}
	for when, valid := range map[int64]bool{-1: false, 1_699_999_999: false, 1_700_000_000: true, 1_710_000_000: true, 1_710_000_001: false} {
		if c.ValidAt(time.Unix(when, 0)) != valid {
			t.Errorf("valid at %d: %v", when, !valid)
		}
	}
}

// F8: no octet of a certificate can be changed, added or dropped.
func TestFlaw08_LeafCertIsSignedAsAWhole(t *testing.T) {
	good := encoded(t)
	accepted := func(b []byte) bool {
		c, err := ParseLeafCert(b)
		if err != nil {
			if !errors.Is(err, ErrLeafCert) {
				t.Errorf("error of another kind: %v", err)
			}
			return false
		}
		return c.Verify() == nil
	}
	if !accepted(good) {
		t.Fatal("good certificate refused")
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if accepted(bad) {
				t.Errorf("octet %d bit %d flipped: accepted", i, bit)
			}
		}
		if accepted(good[:i]) {
			t.Errorf("cut to %d octets: accepted", i)
		}
	}
	if accepted(append(bytes.Clone(good), 0)) {
		t.Error("trailing octet: accepted")
	}
}

func TestLeafCertRefusesImpossibleFields(t *testing.T) {
	bad := map[string]func(*LeafCert){
		"no platform":       func(c *LeafCert) { c.Platform = "" },
		"platform upper":    func(c *LeafCert) { c.Platform = "Email" },
		"platform too long": func(c *LeafCert) { c.Platform = strings.Repeat("a", MaxPlatformSize+1) },
		"no id":             func(c *LeafCert) { c.AccountID = "" },
		"id with NUL":       func(c *LeafCert) { c.AccountID = "a\x00b" },
		"id not UTF-8":      func(c *LeafCert) { c.AccountID = "\xff" },
		"id too long":       func(c *LeafCert) { c.AccountID = strings.Repeat("a", MaxAccountID+1) },
		"no leaf key":       func(c *LeafCert) { c.LeafKey = nil },
		"leaf key too long": func(c *LeafCert) { c.LeafKey = make([]byte, MaxLeafKeySize+1) },
		"ends first":        func(c *LeafCert) { c.NotAfter = c.NotBefore - 1 },
	}
	for name, change := range bad {
		c := signedCert(t)
		change(c)
		if err := c.Sign(testIdentity()); !errors.Is(err, ErrLeafCert) {
			t.Errorf("%s: signed, %v", name, err)
		}
		if err := c.Verify(); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	if _, err := (&LeafCert{}).MarshalBinary(); err == nil {
		t.Error("encoded an empty certificate")
	}
}

// FuzzParseLeafCert: no panic, and what is read is written back the same.
func FuzzParseLeafCert(f *testing.F) {
	good := encoded(f)
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseLeafCert(b)
		if err != nil {
			return
		}
		again, err := c.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written back as %x, %v", again, err)
		}
		if c.Verify() == nil && !bytes.Equal(b, encoded(t)) {
			t.Fatal("forged certificate") // nobody else has the key
		}
	})
}
