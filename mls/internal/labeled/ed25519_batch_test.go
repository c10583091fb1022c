package labeled

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"testing"

	"filippo.io/edwards25519"
)

// edgeCase is a signature at an edge of the rules.
type edgeCase struct {
	name  string
	valid bool // by RFC 8032 section 5.1.7 with the cofactor
	signed
}

func ed25519EdgeCases(t *testing.T) (list []edgeCase) {
	t.Helper()
	message := []byte("message")
	scalar := func(fill byte) *edwards25519.Scalar {
		s, err := new(edwards25519.Scalar).SetUniformBytes(bytes.Repeat([]byte{fill}, 64))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	secret, nonce := scalar(3), scalar(5)
	point := func(x *edwards25519.Scalar, plus *edwards25519.Point) []byte {
		p := new(edwards25519.Point).ScalarBaseMult(x)
		return p.Add(p, plus).Bytes()
	}
	add := func(name string, valid bool, public, signature []byte) {
		list = append(list, edgeCase{name, valid, signed{public: public, message: message, signature: signature}})
	}
	// made signs with the given encodings of R = [nonce]B and A = [secret]B plus
	// anything of small order.
	made := func(r, a []byte, secret, nonce *edwards25519.Scalar) []byte {
		return append(bytes.Clone(r), new(edwards25519.Scalar).MultiplyAdd(challenge(t, r, a, message), secret, nonce).Bytes()...)
	}
	zero := new(edwards25519.Scalar)
	small, n := torsion(t), edwards25519.NewIdentityPoint()
	for i := range 8 { // all points of small order, the first being the identity
		for j, m := 0, edwards25519.NewIdentityPoint(); j < 8; j++ {
			a, r := point(secret, n), point(nonce, m)
			add(fmt.Sprintf("order of %d in A, of %d in R", i, j), true, a, made(r, a, secret, nonce))
			a, r = n.Bytes(), m.Bytes()
			add(fmt.Sprintf("A is %d, R is %d of small order, S is 0", i, j), true, a, made(r, a, zero, zero))
			m.Add(m, small)
		}
		n.Add(n, small)
	}
	if n.Equal(edwards25519.NewIdentityPoint()) != 1 {
		t.Fatal("torsion is not of order 8")
	}
	identity := edwards25519.NewIdentityPoint()
	a, r := point(secret, identity), point(nonce, identity)
	good := made(r, a, secret, nonce)

	order := append([]byte{
		0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
	}, append(make([]byte, 15), 0x10)...)
	tooBig, carry := bytes.Clone(good), 0
	for i, v := range order {
		carry += int(tooBig[32+i]) + int(v)
		tooBig[32+i], carry = byte(carry), carry>>8
	}
	add("S plus the order", false, a, tooBig)
	add("S is the order", false, identity.Bytes(), append(identity.Bytes(), order...))
	add("S is all ones", false, a, append(bytes.Clone(r), bytes.Repeat([]byte{0xff}, 32)...))

	// The same points in other encodings.
	signOne := identity.Bytes()
	signOne[31] |= 0x80
	beyond, minusOne := nearPrime(0xee), nearPrime(0xec)
	signMinusOne := minusOne
	signMinusOne[31] |= 0x80
	zeroAsP := nearPrime(0xed)
	for name, enc := range map[string][]byte{
		"p+1": beyond[:], "1 with sign": signOne, "-1 with sign": signMinusOne[:], "p": zeroAsP[:],
	} {
		add("A is "+name, false, enc, made(r, enc, zero, nonce))
		add("R is "+name, false, a, made(enc, a, secret, zero))
	}
	noPoint := append([]byte{2}, make([]byte, 31)...)
	add("A is no point", false, noPoint, made(r, noPoint, secret, nonce))
	add("R is no point", false, a, made(noPoint, a, secret, nonce))

	other := bytes.Clone(good)
	other[40] ^= 1
	add("S is another", false, a, other)
	add("A is another", false, r, good)
	add("R is another", false, a, append(bytes.Clone(a), good[32:]...))
	for _, size := range []int{0, 31, 33} {
		add(fmt.Sprintf("key of %d bytes", size), false, append(bytes.Clone(a), 0)[:size], good)
	}
	for _, size := range []int{0, 32, 63, 65} {
		add(fmt.Sprintf("signature of %d bytes", size), false, a, append(bytes.Clone(good), 0)[:size])
	}
	return list
}

func honest(t testing.TB, text string) signed {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return signed{public: public, message: []byte(text), signature: ed25519.Sign(private, []byte(text))}
}

// Whatever one signature is, it is judged alike by itself, in a batch of the
// same, and in one of others.
func TestEd25519BatchAcceptsWhatSingleAccepts(t *testing.T) {
	s := ed25519Scheme{}
	cases := ed25519EdgeCases(t)
	accepted := 0
	for _, c := range cases {
		if got := s.verify(c.public, c.message, c.signature); got != c.valid {
			t.Errorf("%s: verify is %v, want %v", c.name, got, c.valid)
		}
		for _, list := range [][]signed{
			{c.signed}, {c.signed, c.signed}, {honest(t, "a"), c.signed, honest(t, "b")},
		} {
			for range 4 { // by chance nothing is accepted
				if got := s.verifyAll(list); got != c.valid {
					t.Errorf("%s: batch of %d is %v, want %v", c.name, len(list), got, c.valid)
				}
			}
		}
		if c.valid {
			accepted++
		}
	}
	if accepted < 100 || len(cases)-accepted < 20 {
		t.Fatalf("%d cases are valid, %d are not", accepted, len(cases)-accepted)
	}

	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		var list []signed
		want := true
		for range rnd.IntN(40) {
			switch c := cases[rnd.IntN(len(cases))]; {
			case rnd.IntN(3) == 0:
				list = append(list, honest(t, c.name))
			case c.valid || rnd.IntN(20) == 0:
				list, want = append(list, c.signed), want && c.valid
			}
		}
		if got := s.verifyAll(list); got != want {
			t.Errorf("round %d: batch of %d is %v, one by one %v", round, len(list), got, want)
		}
	}
}

// Errors of two signatures that cancel each other in a sum without random
// factors do not in a batch.
func TestEd25519BatchErrorsDoNotCancel(t *testing.T) {
	list := []signed{honest(t, "a"), honest(t, "b"), honest(t, "c"), honest(t, "d")}
	var one [32]byte
	one[0] = 1
	unit, err := new(edwards25519.Scalar).SetCanonicalBytes(one[:])
	if err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(v, x, y *edwards25519.Scalar) *edwards25519.Scalar{
		(*edwards25519.Scalar).Add, (*edwards25519.Scalar).Subtract,
	} {
		v, err := new(edwards25519.Scalar).SetCanonicalBytes(list[i].signature[32:])
		if err != nil {
			t.Fatal(err)
		}
		copy(list[i].signature[32:], change(v, v, unit).Bytes())
	}
	if (ed25519Scheme{}).verifyAll(list) {
		t.Error("two wrong signatures are accepted together")
	}
}

// Batches of every suite accept what Verify accepts, labels and contents
// included.
func TestBatchOfEverySuite(t *testing.T) {
	for _, id := range IDs() {
		s, _ := ByID(id)
		t.Run(s.Name, func(t *testing.T) {
			for _, wrong := range []int{-1, 0, 4} {
				b := s.Batch()
				for i := range 5 {
					private, public, err := s.GenerateSignatureKey()
					if err != nil {
						t.Fatal(err)
					}
					content := fmt.Appendf(nil, "content %d", i)
					signature, err := s.Sign(private, "label", content)
					if err != nil {
						t.Fatal(err)
					}
					label := "label"
					if i == wrong {
						label = "another"
					}
					b.Add(public, label, content, signature)
				}
				if got, want := b.Verify(), wrong < 0; got != want {
					t.Errorf("with signature %d wrong: %v, want %v", wrong, got, want)
				}
			}
			if !s.Batch().Verify() {
				t.Error("an empty batch does not verify")
			}
		})
	}
}

// FuzzEd25519Batch holds batches against single verification.
func FuzzEd25519Batch(f *testing.F) {
	a, b := honest(f, "a"), honest(f, "b")
	f.Add(a.public, a.message, a.signature)
	f.Add(make([]byte, 32), []byte{}, make([]byte, 64))
	f.Fuzz(func(t *testing.T, public, message, signature []byte) {
		s := ed25519Scheme{}
		x := signed{public: public, message: message, signature: signature}
		if got, want := s.verifyAll([]signed{a, x, b}), s.verify(public, message, signature); got != want {
			t.Errorf("batch is %v, single %v", got, want)
		}
	})
}

// BenchmarkBatch measures a signature of 250 bytes in batches of several
// sizes; a batch of one is single verification.
func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64, 128} {
		var list []signed
		for range n {
			list = append(list, honest(b, string(make([]byte, 250))))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if !(ed25519Scheme{}).verifyAll(list) {
					b.Fatal("batch does not verify")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/signature")
		})
	}
}
