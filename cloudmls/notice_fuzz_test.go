package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
)

func someRepairRequest() *repairRequest {
	return &repairRequest{
		reason: 3, origin: "https://keys.example.org", account: account("carol"),
		conversation: ConversationID{1, 2, 3}, group: bytes.Repeat([]byte{7}, 32), serving: bytes.Repeat([]byte{8}, 32), epoch: 1 << 40, commit: [32]byte{9},
	}
}

func TestRepairRequestEncoding(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := someRepairRequest()
	b := want.sign(private)
	got, signature, err := parseRepairRequest(b)
	if err != nil || !bytes.Equal(got.marshal(), want.marshal()) || !got.verify(public, signature) {
		t.Fatalf("%+v, %v", got, err)
	}
	if got.verify(public[:31], signature) || got.verify(nil, signature) {
		t.Error("a key of a wrong length verifies")
	}
	for i := range b { // every octet is signed
		c := bytes.Clone(b)
		c[i] ^= 1
		if r, signature, err := parseRepairRequest(c); err == nil && r.verify(public, signature) {
			t.Fatalf("octet %d is not signed", i)
		}
	}
	for n := range b {
		if _, _, err := parseRepairRequest(b[:n]); !errors.Is(err, errRepairRequest) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
	if _, _, err := parseRepairRequest(append(bytes.Clone(b), 0)); err == nil {
		t.Error("one octet more passes")
	}
	shouted := someRepairRequest()
	shouted.account.ID = "CAROL@example.org"
	if _, _, err := parseRepairRequest(shouted.sign(private)); err == nil {
		t.Error("an account that is not canonical passes")
	}
}

func FuzzParseRepairRequest(f *testing.F) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(someRepairRequest().sign(private))
	alone := someRepairRequest()
	alone.serving = nil
	f.Add(alone.sign(private))
	f.Add([]byte(repairMagic))
	f.Add([]byte("CMRR\x01\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, signature, err := parseRepairRequest(b)
		if err != nil {
			return
		}
		if again := append(r.marshal(), signature...); !bytes.Equal(again, b) {
			t.Errorf("%x is read as %x", b, again)
		}
	})
}
