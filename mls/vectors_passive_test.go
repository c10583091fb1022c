package mls

import (
	"bytes"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

func TestVectorsWelcome(t *testing.T) {
	type vector struct {
		Suite      CipherSuite `json:"cipher_suite"`
		InitPriv   hexBytes    `json:"init_priv"`
		SignerPub  hexBytes    `json:"signer_pub"`
		KeyPackage hexBytes    `json:"key_package"`
		Welcome    hexBytes    `json:"welcome"`
	}
	count := countVectors("welcome.json")
	for _, v := range loadVectors[vector](t, "welcome.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		kp := must[*KeyPackage](t)(ParseKeyPackage(v.KeyPackage))
		m := must[*Message](t)(ParseMessage(v.Welcome))
		secrets, err := m.welcome.groupSecrets(s, &KeyPackageSecrets{keyPackage: kp, initPrivate: v.InitPriv})
		noError(t, err)
		psk := make([]byte, s.Nh)
		info, err := m.welcome.groupInfo(s, secrets.joinerSecret, psk)
		noError(t, err)
		noError(t, info.verify(s, v.SignerPub))
		epoch, err := newEpoch(s, secrets.joinerSecret, psk, &info.context)
		noError(t, err)
		wantEqual(t, "confirmation_tag", info.confirmationTag, epoch.confirmationTag(s, info.context.transcriptHash))
	}
	count.report(t)
}

type passiveVector struct {
	Suite CipherSuite `json:"cipher_suite"`
	PSKs  []struct {
		ID  hexBytes `json:"psk_id"`
		PSK hexBytes `json:"psk"`
	} `json:"external_psks"`
	KeyPackage    hexBytes  `json:"key_package"`
	Signature     hexBytes  `json:"signature_priv"`
	Encryption    hexBytes  `json:"encryption_priv"`
	Init          hexBytes  `json:"init_priv"`
	Welcome       hexBytes  `json:"welcome"`
	RatchetTree   *hexBytes `json:"ratchet_tree"`
	Authenticator hexBytes  `json:"initial_epoch_authenticator"`
	Epochs        []struct {
		Proposals     []hexBytes `json:"proposals"`
		Commit        hexBytes   `json:"commit"`
		Authenticator hexBytes   `json:"epoch_authenticator"`
	} `json:"epochs"`
}

func TestVectorsPassiveClientWelcome(t *testing.T) {
	passiveClients(t, "passive-client-welcome.json")
}

func TestVectorsPassiveClientHandlingCommit(t *testing.T) {
	passiveClients(t, "passive-client-handling-commit.json")
}

func TestVectorsPassiveClientRandom(t *testing.T) {
	passiveClients(t, "passive-client-random.json")
}

func passiveClients(t *testing.T, name string) {
	count := countVectors(name)
	for i, v := range loadVectors[passiveVector](t, name) {
		if count.supported(v.Suite) {
			passiveClient(t, i, &v)
		}
	}
	count.report(t)
}

// passiveClient follows one scenario; after each step, the group is stored and
// read back.
func passiveClient(t *testing.T, index int, v *passiveVector) {
	t.Helper()
	anyone := func(CredentialCheck) error { return nil }
	resumption := map[Epoch][]byte{}
	source := func(id PreSharedKeyID) ([]byte, error) {
		if id.Type == PSKResumption {
			return resumption[id.Epoch], nil
		}
		for _, p := range v.PSKs {
			if bytes.Equal(p.ID, id.ID) {
				return p.PSK, nil
			}
		}
		return nil, nil
	}
	kp := must[*KeyPackage](t)(ParseKeyPackage(v.KeyPackage))
	secrets, err := NewKeyPackageSecrets(kp, v.Init, v.Encryption, SignaturePrivateKey(v.Signature))
	if err != nil {
		t.Fatalf("vector %d: %v", index, err)
	}
	o := JoinOptions{Secrets: secrets, Validate: anyone, PSKs: source}
	if v.RatchetTree != nil {
		o.RatchetTree = *v.RatchetTree
	}
	g, err := JoinWelcome(must[*Message](t)(ParseMessage(v.Welcome)), o)
	if err != nil {
		t.Fatalf("vector %d: %v", index, err)
	}
	wantEqual(t, "initial authenticator", g.EpochAuthenticator(), v.Authenticator)
	for n, e := range v.Epochs {
		resumption[g.Epoch()] = g.ResumptionPSK()
		for _, b := range e.Proposals {
			if _, err := g.Process(must[*Message](t)(ParseMessage(b)), testNow); err != nil {
				t.Fatalf("vector %d, epoch %d: proposal: %v", index, n, err)
			}
			g = stored(t, g)
			g.SetPSKs(source)
		}
		r, err := g.Process(must[*Message](t)(ParseMessage(e.Commit)), testNow)
		if err != nil {
			t.Fatalf("vector %d, epoch %d: commit: %v", index, n, err)
		}
		noError(t, g.Merge(r.(*ReceivedCommit).Staged))
		g = stored(t, g)
		g.SetPSKs(source)
		wantEqual(t, "authenticator", g.EpochAuthenticator(), e.Authenticator)
	}
}

// stored returns g after storing and reading it back.
func stored(t testing.TB, g *Group) *Group {
	t.Helper()
	b, err := g.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again, err := UnmarshalGroup(b, g.SignatureKey(), g.validate)
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.MarshalBinary()
	if err != nil || !bytes.Equal(b, second) {
		t.Fatalf("group changes when it is stored: %v", err)
	}
	return again
}
