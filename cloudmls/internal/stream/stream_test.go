package stream

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"
)

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func seal(t testing.TB, text []byte, pad func(uint64) uint64) ([]byte, *Header) {
	t.Helper()
	var bulk bytes.Buffer
	h, err := Encrypt(&bulk, bytes.NewReader(text), pad)
	if err != nil {
		t.Fatal(err)
	}
	return bulk.Bytes(), h
}

// open reads what it can.
func open(bulk []byte, h *Header) ([]byte, error) {
	r, err := Decrypt(bytes.NewReader(bulk), h)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func to(n uint64) func(uint64) uint64 { return func(uint64) uint64 { return n } }

func TestTrip(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 255, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 3*ChunkSize + 17} {
		for _, padded := range []uint64{0, 256, ChunkSize, 2 * ChunkSize, 5*ChunkSize + 3} {
			text := content(n)
			bulk, h := seal(t, text, to(padded))
			if got := uint64(len(bulk)); got != BulkSize(uint64(n), padded) {
				t.Errorf("%d octets, padded to %d: bulk of %d, want %d", n, padded, got, BulkSize(uint64(n), padded))
			}
			b, err := h.MarshalBinary()
			if err != nil || len(b) != HeaderSize {
				t.Fatalf("header of %d octets, %v", len(b), err)
			}
			again, err := ParseHeader(b)
			if err != nil || *again != *h {
				t.Fatalf("header %v, %v", again, err)
			}
			if got, err := open(bulk, again); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d octets, padded to %d: got %d, %v", n, padded, len(got), err)
			}
			r, err := Decrypt(iotest.OneByteReader(bytes.NewReader(bulk)), h)
			if err != nil {
				t.Fatal(err)
			}
			if n <= ChunkSize {
				if err := iotest.TestReader(r, text); err != nil {
					t.Errorf("%d octets: %v", n, err)
				}
			}
		}
	}
}

// TestNothingWrongIsReleased: whatever happens to a bulk, what comes out is a
// beginning of the content, never with an octet of the chunk that is wrong, and
// never the whole.
func TestNothingWrongIsReleased(t *testing.T) {
	t.Parallel()
	const sealed = ChunkSize + overhead
	text := content(4*ChunkSize + 1000)
	bulk, h := seal(t, text, to(6*ChunkSize))
	other, otherHeader := seal(t, bytes.Repeat([]byte{1}, len(text)), to(6*ChunkSize))
	chunk := func(b []byte, n int) []byte { return b[n*sealed : min((n+1)*sealed, len(b))] }
	with := func(fn func(b []byte) []byte) []byte { return fn(bytes.Clone(bulk)) }
	forged := with(func(b []byte) []byte { // by somebody who has the key, as members do, and no signer
		_, signer, _ := ed25519.GenerateKey(nil)
		var out bytes.Buffer
		w, err := newWriter(&out, h, signer)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.write(append(make([]byte, 0, sealed), bytes.Repeat([]byte{9}, ChunkSize)...), 2, false); err != nil {
			t.Fatal(err)
		}
		copy(b[2*sealed:], out.Bytes())
		return b
	})
	for name, x := range map[string]struct {
		bulk  []byte
		whole int // octets that may come out at most
	}{
		"nothing":            {nil, 0},
		"first octet":        {with(func(b []byte) []byte { b[0] ^= 1; return b }), 0},
		"third chunk":        {with(func(b []byte) []byte { b[2*sealed+77] ^= 1; return b }), 2 * ChunkSize},
		"signature":          {with(func(b []byte) []byte { b[3*sealed-1] ^= 1; return b }), 2 * ChunkSize},
		"end of the content": {with(func(b []byte) []byte { b[4*sealed+1] ^= 1; return b }), 4 * ChunkSize},
		"padding":            {with(func(b []byte) []byte { b[5*sealed+9] ^= 1; return b }), 4 * ChunkSize},
		"cut in a chunk":     {bulk[:2*sealed+100], 2 * ChunkSize},
		"cut at a chunk":     {bulk[:3*sealed], 2 * ChunkSize},
		"padding cut":        {bulk[:5*sealed], 4 * ChunkSize},
		"last octet cut":     {bulk[:len(bulk)-1], 4 * ChunkSize},
		"longer":             {append(bytes.Clone(bulk), 0), 4 * ChunkSize},
		"a chunk twice":      {append(bytes.Clone(bulk), chunk(bulk, 5)...), 4 * ChunkSize},
		"swapped": {with(func(b []byte) []byte {
			first := bytes.Clone(chunk(b, 1))
			copy(chunk(b, 1), chunk(b, 2))
			copy(chunk(b, 2), first)
			return b
		}), ChunkSize},
		"left out":            {append(bytes.Clone(bulk[:sealed]), bulk[2*sealed:]...), ChunkSize},
		"of another":          {with(func(b []byte) []byte { copy(chunk(b, 1), chunk(other, 1)); return b }), ChunkSize},
		"another":             {other, 0},
		"by another member":   {forged, 2 * ChunkSize},
		"an earlier last one": {append(bytes.Clone(bulk[:sealed]), chunk(bulk, 5)...), ChunkSize},
	} {
		got, err := open(x.bulk, h)
		if !errors.Is(err, ErrCorrupt) || len(got) > x.whole || !bytes.HasPrefix(text, got) {
			t.Errorf("%s: %d octets (at most %d are right), %v", name, len(got), x.whole, err)
		}
	}
	mixed := *h
	mixed.Digest = otherHeader.Digest // its writer made two of it
	if got, err := open(bulk, &mixed); !errors.Is(err, ErrCorrupt) || len(got) >= len(text) {
		t.Errorf("another digest: %d octets, %v", len(got), err)
	}
	for _, size := range []uint64{h.Size - 1, 0, 6*ChunkSize + 1} {
		resized := *h
		resized.Size = size
		if _, err := open(bulk, &resized); !errors.Is(err, ErrCorrupt) {
			t.Errorf("size %d instead of %d: %v", size, h.Size, err)
		}
	}
}

func TestSourcesFail(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := Encrypt(io.Discard, iotest.ErrReader(broken), nil); !errors.Is(err, broken) {
		t.Errorf("content: %v", err)
	}
	bulk, h := seal(t, content(3*ChunkSize), nil)
	r, err := Decrypt(io.MultiReader(bytes.NewReader(bulk[:2*ChunkSize]), iotest.ErrReader(broken)), h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) {
		t.Errorf("bulk: %v", err)
	}
}

// endless is content of a size that no memory has to hold.
type endless struct{ left, at int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), e.left))
	for i := range p[:n] {
		p[i] = byte(e.at + int64(i))
	}
	e.left, e.at = e.left-int64(n), e.at+int64(n)
	return n, nil
}

// TestMemoryIsBounded: 64 MiB go through, both ways, with 2 MiB allocated in
// all. CLOUDMLS_STREAM_TEST=1073741824 makes it a GiB.
func TestMemoryIsBounded(t *testing.T) {
	size := int64(64 << 20)
	if s := os.Getenv("CLOUDMLS_STREAM_TEST"); s != "" {
		if err := json.Unmarshal([]byte(s), &size); err != nil {
			t.Fatal(err)
		}
	}
	r, w := io.Pipe()
	header := make(chan *Header, 1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// The header is known at the end only, so the bulk is made twice with one key.
	_, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := encrypt(io.Discard, &endless{left: size}, nil, &Header{}, signer)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		again, err := encrypt(w, &endless{left: size}, nil, &Header{}, signer)
		_ = w.CloseWithError(err)
		header <- again
	}()
	plain, err := Decrypt(r, h)
	if err != nil {
		t.Fatal(err)
	}
	sum, want := sha256.New(), sha256.New()
	n, err := io.Copy(sum, plain)
	if err != nil || n != size || *<-header != *h {
		t.Fatalf("%d octets, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if _, err := io.Copy(want, &endless{left: size}); err != nil || !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Errorf("the content differs, %v", err)
	}
	// Allocation grows by what signatures and hashes leave behind for the garbage
	// collector, some hundred octets a chunk; what is held does not grow.
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(2<<20+size/ChunkSize*2048); got > limit {
		t.Errorf("%d octets were allocated for %d, limit %d", got, size, limit)
	}
	if after.HeapInuse > before.HeapInuse+(8<<20) {
		t.Errorf("the heap grew from %d to %d octets", before.HeapInuse, after.HeapInuse)
	}
}

func TestHeaderForm(t *testing.T) {
	t.Parallel()
	_, h := seal(t, nil, nil)
	b, err := h.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	huge := bytes.Clone(b)
	copy(huge[4:], []byte{0xff, 0xff})
	for name, x := range map[string][]byte{
		"nothing": nil, "cut": b[:len(b)-1], "longer": append(bytes.Clone(b), 0), "size": huge, "magic": append([]byte("CMT2"), b[4:]...),
	} {
		if _, err := ParseHeader(x); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.String() != "[redacted]" {
		t.Error("a header prints its key")
	}
}

var update = flag.Bool("update", false, "write the test vectors anew")

var vectorFile = filepath.Join("..", "..", "..", "docs", "spec", "vectors", "stream.json")

type vector struct {
	Comment    string `json:"comment"`
	SignerSeed []byte `json:"signer_seed"`
	Key        []byte `json:"key"`
	Octet      byte   `json:"octet"` // the content is this one, Size times
	Size       int    `json:"size"`
	Padded     uint64 `json:"padded"`
	Header     []byte `json:"header"`
	BulkSize   int    `json:"bulk_size"`
	BulkSHA256 []byte `json:"bulk_sha256"`
	Bulk       []byte `json:"bulk,omitempty"` // of the short ones
}

func (v *vector) content() []byte { return bytes.Repeat([]byte{v.Octet}, v.Size) }

func (v *vector) make(t *testing.T) (header, bulk []byte) {
	t.Helper()
	h := &Header{}
	copy(h.Key[:], v.Key)
	var out bytes.Buffer
	h, err := encrypt(&out, bytes.NewReader(v.content()), to(v.Padded), h, ed25519.NewKeyFromSeed(v.SignerSeed))
	if err != nil {
		t.Fatal(err)
	}
	header, err = h.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return header, out.Bytes()
}

// TestVectors holds the code against the published form.
func TestVectors(t *testing.T) {
	t.Parallel()
	if *update {
		var all []vector
		for i, x := range []struct {
			comment string
			size    int
			padded  uint64
		}{{"nothing, not padded", 0, 0}, {"one octet, padded", 1, 256}, {"two chunks, padded", ChunkSize + 5, ChunkSize + 1024}, {"one full chunk", ChunkSize, 0}} {
			v := vector{Comment: x.comment, SignerSeed: bytes.Repeat([]byte{byte(i + 1)}, 32), Key: bytes.Repeat([]byte{byte(i + 101)}, 32), Padded: x.padded}
			v.Octet, v.Size = 0x55, x.size
			var bulk []byte
			v.Header, bulk = v.make(t)
			sum := sha256.Sum256(bulk)
			if v.BulkSize, v.BulkSHA256 = len(bulk), sum[:]; len(bulk) < 1000 {
				v.Bulk = bulk
			}
			all = append(all, v)
		}
		b, err := json.MarshalIndent(all, "", "  ")
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
	var all []vector
	if err := json.Unmarshal(b, &all); err != nil || len(all) < 4 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	for _, v := range all {
		header, bulk := v.make(t)
		if sum := sha256.Sum256(bulk); !bytes.Equal(header, v.Header) || len(bulk) != v.BulkSize || !bytes.Equal(sum[:], v.BulkSHA256) ||
			v.Bulk != nil && !bytes.Equal(bulk, v.Bulk) {
			t.Errorf("%s: differs", v.Comment)
		}
		h, err := ParseHeader(v.Header)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := open(bulk, h); err != nil || !bytes.Equal(got, v.content()) {
			t.Errorf("%s: %d octets, %v", v.Comment, len(got), err)
		}
	}
}

// FuzzOpen: no bulk and no header make the reader do anything but fail, or give
// what was sealed.
func FuzzOpen(f *testing.F) {
	text := content(300)
	bulk, h := seal(f, text, to(400))
	b, err := h.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, bulk)
	f.Add(b, bulk[:len(bulk)-1])
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, header, bulk []byte) {
		h, err := ParseHeader(header)
		if err != nil {
			return
		}
		got, err := open(bulk, h)
		if err == nil && uint64(len(got)) != h.Size {
			t.Fatalf("%d octets of %d without an error", len(got), h.Size)
		}
	})
}
