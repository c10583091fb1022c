package envelope

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

func TestTripThroughEnvelope(t *testing.T) {
	t.Parallel()
	key := pattern(32, 1)
	c := Context{Origin: "o", Type: 9}
	h := Header{KeyVersion: 3, Counter: 4, Slot: 5}
	for _, n := range []int{0, 1, 88, 89, 90, 1000, 65536, 1 << 20} {
		pt := pattern(n, 7)
		b, err := Seal(key, c, h, pt)
		if err != nil {
			t.Fatal(err)
		}
		got, back, err := Open(key, c, Expect{}, b)
		if err != nil || got != h || !bytes.Equal(back, pt) {
			t.Errorf("%d octets: %v, %v", n, got, err)
		}
	}
	if _, err := Seal(key, c, h, make([]byte, MaxSize)); err == nil {
		t.Error("sealed more than the limit")
	}
	if _, err := Seal(key[:31], c, h, nil); err == nil {
		t.Error("sealed with a short key")
	}
}

// The same plaintext twice shares no octet pattern: every envelope has its own
// key (CloudMLS of 2022 derived key and IV by one MD5 round).
func TestFlaw14_AuthenticatedEncryption(t *testing.T) {
	t.Parallel()
	key, c := pattern(32, 1), Context{Origin: "o"}
	pt := make([]byte, 2000)
	a, err := Seal(key, c, Header{}, pt)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Seal(key, c, Header{}, pt)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a[headerSize:headerSize+saltSize], b[headerSize:headerSize+saltSize]) || bytes.Equal(a[200:264], b[200:264]) {
		t.Error("two envelopes share salt or keystream")
	}
	for i := range a {
		bad := bytes.Clone(a)
		bad[i] ^= 0x40
		if _, _, err := Open(key, c, Expect{}, bad); !errors.Is(err, ErrOpen) {
			t.Fatalf("octet %d changed: %v", i, err)
		}
	}
	for n := range len(a) {
		if _, _, err := Open(key, c, Expect{}, a[:n]); !errors.Is(err, ErrOpen) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
}

// Each part of the context that a server could exchange makes opening fail.
func TestFlaw15_ContextBinding(t *testing.T) {
	t.Parallel()
	key := pattern(32, 1)
	c := Context{Origin: "o", User: [16]byte{1}, Account: [32]byte{2}, Type: 3, Object: [32]byte{4}}
	b, err := Seal(key, c, Header{Counter: 9, Previous: [32]byte{5}}, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Context){
		"origin":  func(c *Context) { c.Origin = "p" },
		"user":    func(c *Context) { c.User[0]++ },
		"account": func(c *Context) { c.Account[0]++ },
		"type":    func(c *Context) { c.Type++ },
		"object":  func(c *Context) { c.Object[0]++ },
	} {
		d := c
		change(&d)
		if _, _, err := Open(key, d, Expect{}, b); err != ErrOpen {
			t.Errorf("%s: %v", name, err)
		}
	}
	counter, previous := uint64(8), [32]byte{6}
	for name, e := range map[string]Expect{"counter": {Counter: &counter}, "previous": {Previous: &previous}} {
		if _, _, err := Open(key, c, e, b); err != ErrOpen {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A ciphertext can be made to decrypt under two keys with Poly1305; the
// commitment is what refuses it (threat 28).
func TestThreat28_KeyCommitment(t *testing.T) {
	t.Parallel()
	c := Context{Origin: "o"}
	k1, k2 := pattern(32, 1), pattern(32, 2)
	b, err := Seal(k1, c, Header{}, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	// Seal the body anew, correctly, under what k2 derives, and leave the
	// commitment of k1: all but the commitment is right for k2.
	bound, err := c.bind(b[:headerSize])
	if err != nil {
		t.Fatal(err)
	}
	salt := b[headerSize : headerSize+saltSize]
	dk, commit, err := derive(k2, salt, bound)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.New(dk)
	if err != nil {
		t.Fatal(err)
	}
	start := headerSize + saltSize + commitSize
	inner := make([]byte, len(b)-start-aead.Overhead())
	binary.BigEndian.PutUint32(inner, uint32(len(inner)-lengthSize))
	aead.Seal(b[start:start], make([]byte, 12), inner, bound)
	if _, _, err := Open(k2, c, Expect{}, b); err != ErrOpen {
		t.Errorf("wrong commitment: %v", err)
	}
	copy(b[headerSize+saltSize:], commit)
	if _, _, err := Open(k2, c, Expect{}, b); err != nil {
		t.Errorf("the test's own envelope is wrong: %v", err)
	}
}

func TestThreat29_SizesAreOnlyPadme(t *testing.T) {
	t.Parallel()
	key := pattern(32, 1)
	sizes := map[int]bool{}
	for n := 0; n < 20000; n += 7 {
		b, err := Seal(key, Context{}, Header{}, make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) < MinSize || Padme(len(b)) != len(b) {
			t.Fatalf("%d octets became %d", n, len(b))
		}
		if over := len(b) - overhead - n; len(b) > MinSize && float64(over) > 0.12*float64(overhead+n) {
			t.Fatalf("%d octets padded by %d", n, over)
		}
		sizes[len(b)] = true
	}
	if len(sizes) > 120 {
		t.Errorf("%d different sizes", len(sizes))
	}
}

func FuzzOpen(f *testing.F) {
	key, c := pattern(32, 1), Context{Origin: "o", Type: 1}
	for _, n := range []int{0, 5, 300} {
		b, err := Seal(key, c, Header{Counter: 1}, make([]byte, n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte("CMS1\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, pt, err := Open(key, c, Expect{}, b)
		if err != nil {
			if err != ErrOpen || pt != nil || h != (Header{}) {
				t.Fatalf("got %v, %x, %v", h, pt, err)
			}
			return
		}
		// Whoever has no key can only repeat the seeds.
		again, err := seal(key, c, h, pt, [32]byte(b[headerSize:]))
		if err != nil || !bytes.Equal(again, b) {
			t.Fatal("opened something that sealing does not give")
		}
	})
}

func BenchmarkSeal64K(b *testing.B) {
	key, pt := make([]byte, 32), make([]byte, 64<<10)
	_, _ = rand.Read(pt)
	b.SetBytes(int64(len(pt)))
	for b.Loop() {
		if _, err := Seal(key, Context{}, Header{}, pt); err != nil {
			b.Fatal(err)
		}
	}
}
