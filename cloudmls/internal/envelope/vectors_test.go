package envelope

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

var update = flag.Bool("update", false, "write docs/spec/vectors/cms1.json")

var vectorFile = filepath.Join("..", "..", "..", "docs", "spec", "vectors", "cms1.json")

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type vectors struct {
	Comment string         `json:"comment"`
	Valid   []vector       `json:"valid"`
	Invalid []vector       `json:"invalid"`
	Sizes   map[string]int `json:"sizes"` // octets of plaintext → octets of envelope
}

type vector struct {
	Name       string   `json:"name"`
	Key        hexBytes `json:"key"`
	Origin     string   `json:"origin"`
	User       hexBytes `json:"user"`
	Account    hexBytes `json:"account"`
	Type       uint8    `json:"type"`
	Object     hexBytes `json:"object"`
	KeyVersion uint32   `json:"key_version"`
	Counter    uint64   `json:"counter"`
	Previous   hexBytes `json:"previous"`
	Slot       uint16   `json:"slot"`
	Salt       hexBytes `json:"salt,omitempty"`
	Plaintext  hexBytes `json:"plaintext,omitempty"`
	Envelope   hexBytes `json:"envelope"`
}

func (v *vector) context() Context {
	return Context{v.Origin, [16]byte(v.User), [32]byte(v.Account), v.Type, [32]byte(v.Object)}
}

func (v *vector) header() Header {
	return Header{v.KeyVersion, v.Counter, [32]byte(v.Previous), v.Slot}
}

// open opens with all that a reader may expect.
func (v *vector) open() ([]byte, error) {
	previous := [32]byte(v.Previous)
	h, pt, err := Open(v.Key, v.context(), Expect{&v.Counter, &previous}, v.Envelope)
	if err == nil && h != v.header() {
		return nil, ErrOpen
	}
	return pt, err
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var vs vectors
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs.Valid) < 4 || len(vs.Invalid) < 10 || len(vs.Sizes) < 10 {
		t.Fatal("vectors are missing")
	}
	for _, v := range vs.Valid {
		got, err := seal(v.Key, v.context(), v.header(), v.Plaintext, [32]byte(v.Salt))
		if err != nil || !bytes.Equal(got, v.Envelope) {
			t.Errorf("%s: sealed %x, %v", v.Name, got, err)
		}
		if got := sealBySpec(t, v); !bytes.Equal(got, v.Envelope) {
			t.Errorf("%s: the specification gives %x", v.Name, got)
		}
		if pt, err := v.open(); err != nil || !bytes.Equal(pt, v.Plaintext) {
			t.Errorf("%s: opened %x, %v", v.Name, pt, err)
		}
	}
	for _, v := range vs.Invalid {
		if pt, err := v.open(); err != ErrOpen || pt != nil {
			t.Errorf("%s: got %x, %v", v.Name, pt, err)
		}
	}
	for in, want := range vs.Sizes {
		n := 0
		if err := json.Unmarshal([]byte(in), &n); err != nil || Size(n) != want {
			t.Errorf("size of %s: got %d, want %d", in, Size(n), want)
		}
	}
}

// sealBySpec follows docs/spec/cms1.md with nothing but primitives.
func sealBySpec(t *testing.T, v vector) []byte {
	t.Helper()
	mac := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(sha256.New, key)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	header := append([]byte("CMS1\x01"), binary.BigEndian.AppendUint32(nil, v.KeyVersion)...)
	header = binary.BigEndian.AppendUint64(header, v.Counter)
	header = append(header, v.Previous...)
	header = binary.BigEndian.AppendUint16(header, v.Slot)

	bound := binary.BigEndian.AppendUint16(bytes.Clone(header), uint16(len(v.Origin)))
	bound = append(bound, v.Origin...)
	bound = append(bound, v.User...)
	bound = append(bound, v.Account...)
	bound = append(bound, v.Type)
	bound = append(bound, v.Object...)

	prk := mac(v.Salt, v.Key)
	info := append([]byte("cloudmls/1 blob"), bound...)
	t1 := mac(prk, info, []byte{1})
	t2 := mac(prk, t1, info, []byte{2})

	inner := binary.BigEndian.AppendUint32(nil, uint32(len(v.Plaintext)))
	inner = append(inner, v.Plaintext...)
	inner = append(inner, make([]byte, Size(len(v.Plaintext))-overhead-len(v.Plaintext))...)
	aead, err := chacha20poly1305.New(t1)
	if err != nil {
		t.Fatal(err)
	}
	out := append(header, v.Salt...)
	out = append(out, t2...)
	return aead.Seal(out, make([]byte, 12), inner, bound)
}

func pattern(n int, first byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func writeVectors(t *testing.T) {
	t.Helper()
	base := vector{
		Name: "an object", Key: pattern(32, 0), Origin: "https://keys.example.org", User: pattern(16, 0x20),
		Account: make([]byte, 32), Type: 8, Object: pattern(32, 0x40), KeyVersion: 1, Counter: 7,
		Previous: pattern(32, 0x60), Slot: 0xbeef, Salt: pattern(32, 0x80), Plaintext: hexBytes("conversation"),
	}
	empty, fills, long := base, base, base
	empty.Name, empty.Plaintext, empty.Counter, empty.Previous = "empty plaintext, first version", hexBytes{}, 1, make([]byte, 32)
	fills.Name, fills.Plaintext = "plaintext that needs no padding", pattern(MinSize-overhead, 1)
	long.Name, long.Plaintext, long.Origin, long.Account = "padded by Padmé; an account; no origin", pattern(1000, 1), "", pattern(32, 0xa0)
	vs := vectors{Comment: "CMS1, see docs/spec/cms1.md. Octets are hexadecimal. Each invalid envelope must be refused with the expectations given.", Sizes: map[string]int{}}
	for _, v := range []vector{base, empty, fills, long} {
		b, err := seal(v.Key, v.context(), v.header(), v.Plaintext, [32]byte(v.Salt))
		if err != nil {
			t.Fatal(err)
		}
		v.Envelope = b
		vs.Valid = append(vs.Valid, v)
	}
	vs.Invalid = invalidVectors(t, vs.Valid[0])
	for _, n := range []int{0, 1, 89, 90, 200, 500, 1000, 4096, 65536, 100000, 1 << 20, 5000000} {
		vs.Sizes[string(must(json.Marshal(n)))] = Size(n)
	}
	b := append(must(json.MarshalIndent(vs, "", "  ")), '\n')
	if err := os.WriteFile(vectorFile, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func invalidVectors(t *testing.T, good vector) (out []vector) {
	t.Helper()
	add := func(name string, change func(v *vector)) {
		v := good
		for _, p := range []*hexBytes{&v.Key, &v.User, &v.Account, &v.Object, &v.Previous, &v.Envelope} {
			*p = bytes.Clone(*p)
		}
		v.Name, v.Salt, v.Plaintext = name, nil, nil
		change(&v)
		out = append(out, v)
	}
	flip := func(i int) func(v *vector) { return func(v *vector) { v.Envelope[i] ^= 1 } }
	add("another key", func(v *vector) { v.Key[0] ^= 1 })
	add("another origin", func(v *vector) { v.Origin = "https://keys.example.net" })
	add("another user", func(v *vector) { v.User[0] ^= 1 })
	add("another account", func(v *vector) { v.Account[0] ^= 1 })
	add("another type", func(v *vector) { v.Type++ })
	add("another object", func(v *vector) { v.Object[0] ^= 1 })
	add("an older counter was expected", func(v *vector) { v.Counter-- })
	add("another predecessor was expected", func(v *vector) { v.Previous[0] ^= 1 })
	add("magic changed", flip(0))
	add("version changed", flip(4))
	add("key version changed", flip(8))
	add("counter changed", flip(16))
	add("previous changed", flip(20))
	add("slot changed", flip(50))
	add("salt changed", flip(51))
	add("commitment changed", flip(83))
	add("ciphertext changed", flip(115))
	add("tag changed", flip(len(good.Envelope)-1))
	add("cut short", func(v *vector) { v.Envelope = v.Envelope[:len(v.Envelope)-8] })
	add("octets appended", func(v *vector) { v.Envelope = append(v.Envelope, make([]byte, 16)...) })
	add("empty", func(v *vector) { v.Envelope = hexBytes{} })
	return out
}
