package labeled

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	stded25519 "crypto/ed25519"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/dh/x448"
	circlhpke "github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem/mlkem/mlkem768"
	"github.com/cloudflare/circl/kem/xwing"
	"github.com/cloudflare/circl/sign/ed25519"
	"github.com/cloudflare/circl/sign/ed448"
)

// BenchmarkPrimitives measures each primitive of each provider; the package
// comment holds the figures that decided.
func BenchmarkPrimitives(b *testing.B) {
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
	message := make([]byte, 300)

	curve := ecdh.X25519()
	std, _ := curve.GenerateKey(rand.Reader)
	var private, public, shared x25519.Key
	copy(private[:], std.Bytes())
	run("x25519-generate/std", func() { _, _ = curve.NewPrivateKey(std.Bytes()) })
	run("x25519-generate/circl", func() { x25519.KeyGen(&public, &private) })
	run("x25519-shared/std", func() { _, _ = std.ECDH(std.PublicKey()) })
	run("x25519-shared/circl", func() { x25519.Shared(&shared, &private, &public) })
	var private4, public4, shared4 x448.Key
	rand.Read(private4[:])
	run("x448-generate/circl", func() { x448.KeyGen(&public4, &private4) })
	run("x448-shared/circl", func() { x448.Shared(&shared4, &private4, &public4) })
	for name, c := range map[string]ecdh.Curve{"p256": ecdh.P256(), "p384": ecdh.P384(), "p521": ecdh.P521()} {
		k, _ := c.GenerateKey(rand.Reader)
		run(name+"-generate/std", func() { _, _ = c.GenerateKey(rand.Reader) })
		run(name+"-shared/std", func() { _, _ = k.ECDH(k.PublicKey()) })
	}

	mk, _ := mlkem.GenerateKey768()
	mpub := mk.EncapsulationKey().Bytes()
	_, mct := mk.EncapsulationKey().Encapsulate()
	run("mlkem768-generate/std", func() { _, _ = mlkem.NewDecapsulationKey768(mk.Bytes()) })
	run("mlkem768-encapsulate/std", func() {
		k, _ := mlkem.NewEncapsulationKey768(mpub)
		k.Encapsulate()
	})
	run("mlkem768-decapsulate/std", func() { _, _ = mk.Decapsulate(mct) })
	run("mlkem768-generate/circl", func() { mlkem768.NewKeyFromSeed(mk.Bytes()) })
	_, csk := mlkem768.NewKeyFromSeed(mk.Bytes())
	run("mlkem768-encapsulate/circl", func() {
		var k mlkem768.PublicKey
		_ = k.Unpack(mpub)
		var ct [mlkem768.CiphertextSize]byte
		var ss [mlkem768.SharedKeySize]byte
		k.EncapsulateTo(ct[:], ss[:], nil)
	})
	run("mlkem768-decapsulate/circl", func() {
		var ss [mlkem768.SharedKeySize]byte
		csk.DecapsulateTo(ss[:], mct)
	})

	for _, k := range []struct {
		name  string
		std   hpke.KEM
		circl circlhpke.KEM
		kdf   circlhpke.KDF
	}{
		{"x25519", hpke.DHKEM(ecdh.X25519()), circlhpke.KEM_X25519_HKDF_SHA256, circlhpke.KDF_HKDF_SHA256},
		{"xwing", hpke.MLKEM768X25519(), circlhpke.KEM_XWING, circlhpke.KDF_HKDF_SHA256},
		{"p256", hpke.DHKEM(ecdh.P256()), circlhpke.KEM_P256_HKDF_SHA256, circlhpke.KDF_HKDF_SHA256},
		{"x448", nil, circlhpke.KEM_X448_HKDF_SHA512, circlhpke.KDF_HKDF_SHA512},
	} {
		if k.std != nil {
			sk, _ := k.std.GenerateKey()
			pub, seed := sk.PublicKey().Bytes(), func() []byte { b, _ := sk.Bytes(); return b }()
			var enc, ct []byte
			run("hpke-"+k.name+"-seal/std", func() {
				pk, _ := k.std.NewPublicKey(pub)
				e, s, _ := hpke.NewSender(pk, hpke.HKDFSHA256(), hpke.AES128GCM(), message)
				c, _ := s.Seal(nil, message)
				enc, ct = e, c
			})
			run("hpke-"+k.name+"-open/std", func() {
				sk, _ := k.std.NewPrivateKey(seed)
				r, _ := hpke.NewRecipient(enc, sk, hpke.HKDFSHA256(), hpke.AES128GCM(), message)
				if _, err := r.Open(nil, ct); err != nil {
					b.Fatal(err)
				}
			})
		}
		scheme := k.circl.Scheme()
		pk, sk, _ := scheme.GenerateKeyPair()
		pub, _ := pk.MarshalBinary()
		seed, _ := sk.MarshalBinary()
		suite := circlhpke.NewSuite(k.circl, k.kdf, circlhpke.AEAD_AES128GCM)
		var enc, ct []byte
		run("hpke-"+k.name+"-seal/circl", func() {
			pk, _ := scheme.UnmarshalBinaryPublicKey(pub)
			s, _ := suite.NewSender(pk, message)
			e, seal, err := s.Setup(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			c, _ := seal.Seal(message, nil)
			enc, ct = e, c
		})
		run("hpke-"+k.name+"-open/circl", func() {
			sk, _ := scheme.UnmarshalBinaryPrivateKey(seed)
			r, _ := suite.NewReceiver(sk, message)
			o, err := r.Setup(enc)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := o.Open(ct, nil); err != nil {
				b.Fatal(err)
			}
		})
	}
	for _, id := range []uint16{0x0001, 0x0002, 0x0004, XWing} {
		s, _ := ByID(id)
		private, public, _ := s.GenerateKeyPair()
		enc, ct, _ := s.hpke.seal(public, s.hpke.context(message), message)
		run("hpke-"+s.Name+"-seal/ours", func() { _, _, _ = s.hpke.seal(public, s.hpke.context(message), message) })
		run("hpke-"+s.Name+"-open/ours", func() {
			if _, err := s.hpke.open(private, public, enc, message, ct); err != nil {
				b.Fatal(err)
			}
		})
	}
	var xseed [64]byte
	xk, xp := xwing.DeriveKeyPairPacked(xseed[:32])
	_, xct, _ := xwing.Encapsulate(xp, nil)
	run("xwing-encapsulate/circl", func() { _, _, _ = xwing.Encapsulate(xp, nil) })
	run("xwing-decapsulate/circl", func() { xwing.Decapsulate(xct, xk) })

	epub, ekey, _ := stded25519.GenerateKey(rand.Reader)
	sig := stded25519.Sign(ekey, message)
	run("ed25519-sign/std", func() { stded25519.Sign(stded25519.NewKeyFromSeed(ekey.Seed()), message) })
	run("ed25519-sign/circl", func() { ed25519.Sign(ed25519.NewKeyFromSeed(ekey.Seed()), message) })
	run("ed25519-verify/std", func() { stded25519.Verify(epub, message, sig) })
	run("ed25519-verify/circl", func() { ed25519.Verify(ed25519.PublicKey(epub), message, sig) })
	fpub, fkey, _ := ed448.GenerateKey(rand.Reader)
	fsig := ed448.Sign(fkey, message, "")
	run("ed448-sign/circl", func() { ed448.Sign(ed448.NewKeyFromSeed(fkey.Seed()), message, "") })
	run("ed448-verify/circl", func() { ed448.Verify(fpub, message, fsig, "") })
	for name, c := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		k, _ := ecdsa.GenerateKey(c, rand.Reader)
		digest := sha256.Sum256(message)
		sig, _ := ecdsa.SignASN1(rand.Reader, k, digest[:])
		run("ecdsa-"+name+"-sign/std", func() { _, _ = ecdsa.SignASN1(rand.Reader, k, digest[:]) })
		run("ecdsa-"+name+"-verify/std", func() { ecdsa.VerifyASN1(&k.PublicKey, digest[:], sig) })
	}
	run("sha256-300/std", func() { sha256.Sum256(message) })
	run("sha512-300/std", func() { sha512.Sum512(message) })
}
