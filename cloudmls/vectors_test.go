package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

var updateVectors = flag.Bool("update", false, "write docs/spec/vectors/sdk.json")

var vectorFile = filepath.Join("..", "docs", "spec", "vectors", "sdk.json")

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type sdkVectors struct {
	Comment  string          `json:"comment"`
	Bindings []bindingVector `json:"bindings"`
	Invalid  []hexBytes      `json:"invalid_bindings"`
	AuthData []authVector    `json:"authenticated_data"`
	Guards   []guardVector   `json:"reuse_guards"`
	Epoch    epochVector     `json:"epoch"`
}

type bindingVector struct {
	Kind         Kind     `json:"kind"`
	Conversation hexBytes `json:"conversation"`
	Origin       string   `json:"origin"`
	Days         uint32   `json:"days"`
	Encoded      hexBytes `json:"encoded"`
}

type authVector struct {
	EpochAuthenticator hexBytes `json:"epoch_authenticator"`
	Leaf               uint32   `json:"leaf"`
	Generation         uint32   `json:"generation"`
	Rest               hexBytes `json:"rest"`
	Encoded            hexBytes `json:"encoded"`
}

type guardVector struct {
	Slot  uint16   `json:"slot"`
	Mask  hexBytes `json:"mask"`
	First hexBytes `json:"first_octets"`
}

// epochVector is a group in one epoch, with what is derived from it.
type epochVector struct {
	SignatureSeed   hexBytes `json:"signature_seed"`
	LeafCertificate hexBytes `json:"leaf_certificate"`
	State           hexBytes `json:"state"` // mls.Group.MarshalBinary
	CommitToken     hexBytes `json:"commit_token"`
	TokenHash       hexBytes `json:"token_hash"`
	OpenedMillis    int64    `json:"opened_ms"`
	ArchiveRecord   hexBytes `json:"archive_record"`
}

func makeVectors(t *testing.T) sdkVectors {
	t.Helper()
	v := sdkVectors{Comment: "See docs/spec/sdk.md. Octets are hexadecimal."}
	for _, b := range []binding{
		{kind: KindDialog, conversation: ConversationID{1, 2, 3}, origin: "https://keys.example.org"},
		{kind: KindGroup, conversation: ConversationID{0xff}, origin: "k", days: 30},
		{kind: KindSelf, conversation: ConversationID{15: 1}},
	} {
		e := b.marshal()
		v.Bindings = append(v.Bindings, bindingVector{b.kind, b.conversation[:], b.origin, b.days, e})
		v.Invalid = append(v.Invalid, e[:len(e)-1], append(bytes.Clone(e), 0))
	}
	secret := sha256.Sum256([]byte("authenticator"))
	for i, rest := range []string{"", "more"} {
		leaf, generation := uint32(3*i), uint32(16383*i)
		v.AuthData = append(v.AuthData, authVector{secret[:], leaf, generation, []byte(rest), authData(secret[:], leaf, generation, []byte(rest))})
	}
	for _, slot := range []uint16{1, 0x1234, 0xffff} {
		var g [4]byte
		partitionGuard(&g, slot, []byte{0xa5, 0x5a})
		v.Guards = append(v.Guards, guardVector{slot, []byte{0xa5, 0x5a}, g[:2]})
	}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	identity := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	signature, credential, err := certify(account("alice"), identity, suite, lifetime(now))
	if err != nil {
		t.Fatal(err)
	}
	capabilities := mls.DefaultCapabilities(suite, extensionBinding)
	g, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: suite, Credential: credential, SignatureKey: signature, Lifetime: lifetime(now),
		Capabilities: &capabilities, Validate: validateCredential,
		Extensions: []mls.Extension{{Type: extensionBinding, Data: v.Bindings[1].Encoded}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &v.Epoch
	e.SignatureSeed, e.LeafCertificate, e.OpenedMillis = hexBytes(signature), credential.Identity, now.UnixMilli()
	if e.State, err = g.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	e.derive(t, g)
	return v
}

// derive fills in what follows from the group.
func (e *epochVector) derive(t *testing.T, g *mls.Group) {
	t.Helper()
	token, err := commitToken(g)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := commitTokenHash(g)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := g.Archive()
	if err != nil {
		t.Fatal(err)
	}
	record, err := encodeEpoch(time.UnixMilli(e.OpenedMillis), archive)
	if err != nil {
		t.Fatal(err)
	}
	e.CommitToken, e.TokenHash, e.ArchiveRecord = token, hash, record
}

// TestVectors holds the code against the published form of what other programs
// have to agree with.
func TestVectors(t *testing.T) {
	t.Parallel()
	if *updateVectors {
		b, err := json.MarshalIndent(makeVectors(t), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	v := decodeJSON[sdkVectors](t, b)
	if len(v.Bindings) == 0 || len(v.Invalid) == 0 || len(v.AuthData) == 0 || len(v.Guards) == 0 {
		t.Fatal("vectors are missing")
	}
	for i, x := range v.Bindings {
		want := binding{x.Kind, ConversationID(x.Conversation), x.Origin, x.Days}
		if got, err := parseBinding(x.Encoded); err != nil || got != want || !bytes.Equal(want.marshal(), x.Encoded) {
			t.Errorf("binding %d: %+v, %v", i, got, err)
		}
	}
	for i, x := range v.Invalid {
		if _, err := parseBinding(x); err == nil {
			t.Errorf("invalid binding %d passes", i)
		}
	}
	for i, x := range v.AuthData {
		if got := authData(x.EpochAuthenticator, x.Leaf, x.Generation, x.Rest); !bytes.Equal(got, x.Encoded) {
			t.Errorf("authenticated data %d: %x", i, got)
		}
	}
	for i, x := range v.Guards {
		var g [4]byte
		if partitionGuard(&g, x.Slot, x.Mask); !bytes.Equal(g[:2], x.First) {
			t.Errorf("guard %d: %x", i, g)
		}
	}
	v.Epoch.check(t)
}

func (e epochVector) check(t *testing.T) {
	t.Helper()
	g, err := mls.UnmarshalGroup(e.State, mls.SignaturePrivateKey(e.SignatureSeed), validateCredential)
	if err != nil {
		t.Fatal(err)
	}
	want := e
	if e.derive(t, g); !bytes.Equal(e.CommitToken, want.CommitToken) || !bytes.Equal(e.TokenHash, want.TokenHash) {
		t.Error("commit token differs")
	}
	if !bytes.Equal(e.ArchiveRecord, want.ArchiveRecord) {
		t.Error("archive record differs")
	}
	r, err := decodeEpoch(want.ArchiveRecord)
	if err != nil || r.opened.UnixMilli() != want.OpenedMillis {
		t.Fatalf("archive record: %v", err)
	}
	cert, err := keyapi.ParseLeafCert(e.LeafCertificate)
	if err != nil || cert.Verify() != nil {
		t.Fatalf("leaf certificate: %v", err)
	}
	m := r.archive.Members()
	if len(m) != 1 || !bytes.Equal(m[0].Credential.Identity, e.LeafCertificate) || !bytes.Equal(m[0].SignatureKey, cert.LeafKey) {
		t.Errorf("roster %+v", m)
	}
}

func readVectors(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
