package mime

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDecode(t *testing.T) {
	for _, tt := range []struct{ name, encoding, in, want string }{
		{"base64", "base64", "aGVsbG8=\r\n", "hello"},
		{"base64 case", " BASE64 ", "aGVsbG8=", "hello"},
		{"base64 odd lines", "base64", "aGV\r\nsbG\n8\r\n=", "hello"},
		{"base64 no padding", "base64", "aGVsbG8", "hello"},
		{"base64 garbage", "base64", "aG!Vs bG8=\r\n-- \r\nfooter", "hello"},
		{"base64 ends at padding", "base64", "aGVsbG8=aGVsbG8=", "hello"},
		{"base64 empty", "base64", "\r\n\r\n", ""},
		{"quoted", "quoted-printable", "Gr=C3=BC=\r\n=c3=9Fe  \r\n", "Grüße\r\n"},
		{"quoted broken", "Quoted-Printable", "a=b =ZZ =", "a=b =ZZ "},
		{"8bit", "8bit", "a=3D\xff\r\n", "a=3D\xff\r\n"},
		{"unknown", "x-what", "QQ==", "QQ=="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.in), "octets": iotest.OneByteReader(strings.NewReader(tt.in)),
			} {
				got, err := io.ReadAll(NewDecoder(tt.encoding, r))
				if err != nil || string(got) != tt.want {
					t.Errorf("%s: got %q, %v; want %q", name, got, err, tt.want)
				}
			}
			d, err := NewDecoded(strings.NewReader(tt.in), int64(len(tt.in)), tt.encoding)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
			if err != nil || string(got) != tt.want {
				t.Errorf("at: got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// TestDecodedRandomAccess reads at random places of content with line lengths
// that no arithmetic could find.
func TestDecodedRandomAccess(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 700<<10)
	for i := range want {
		want[i] = byte(rnd.Uint32())
	}
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	w.Binary = true
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(want)
	var lines strings.Builder
	for len(text) > 0 {
		n := min(1+rnd.IntN(200), len(text))
		lines.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	for encoding, in := range map[string]string{
		"base64": lines.String(), "quoted-printable": qp.String(), "binary": string(want),
	} {
		t.Run(encoding, func(t *testing.T) {
			d, err := NewDecoded(strings.NewReader(in), int64(len(in)), encoding)
			if err != nil {
				t.Fatal(err)
			}
			if d.Size() != int64(len(want)) {
				t.Fatalf("size %d, want %d", d.Size(), len(want))
			}
			for range 200 {
				off, n := rnd.IntN(len(want)), rnd.IntN(100<<10)
				got := make([]byte, n)
				k, err := d.ReadAt(got, int64(off))
				wantN := min(n, len(want)-off)
				if k != wantN || (err != nil) != (k < n) || !bytes.Equal(got[:k], want[off:off+k]) {
					t.Fatalf("read %d at %d: %d, %v", n, off, k, err)
				}
			}
		})
	}
}

func BenchmarkDecodeBase64(b *testing.B) {
	in := []byte(strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 10000))
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, NewDecoder("base64", bytes.NewReader(in))); err != nil {
			b.Fatal(err)
		}
	}
}
