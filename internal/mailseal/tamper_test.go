package mailseal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"filippo.io/age"

	"github.com/cloudmls/gateway/internal/mime"
)

// bulkBytes is an age file in memory.
type bulkBytes []byte

func (b bulkBytes) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(b).ReadAt(p, off) }
func (b bulkBytes) Size() int64                             { return int64(len(b)) }

// sealedBulk returns a control record and the age file that belongs to it.
func sealedBulk(t testing.TB, inner []byte) (*Control, []byte) {
	t.Helper()
	outer, _ := seal(t, inner, testOptions())
	o, err := open(outer)
	if err != nil {
		t.Fatal(err)
	}
	b, err := readAll(o.bulk)
	if err != nil {
		t.Fatal(err)
	}
	return o.control, b
}

// released reads all of a message in order and at random and returns an error
// if any octet that came out is not that of inner.
func released(t *testing.T, c *Control, bulk, inner []byte) (err error) {
	t.Helper()
	m, err := Open(c, bulkBytes(bulk))
	if err != nil {
		return err
	}
	buf := make([]byte, 40_000)
	for off := int64(0); off < m.Size(); off += int64(len(buf)) {
		n, rerr := m.ReadAt(buf, off)
		if !bytes.Equal(buf[:n], inner[off:off+int64(n)]) {
			t.Fatalf("unverified octets were released at %d", off)
		}
		if rerr != nil && rerr != io.EOF {
			err = rerr
		}
	}
	return err
}

// TestTamperedBulk changes octets of the age file all over.
func TestTamperedBulk(t *testing.T) {
	inner := sized(3*ChunkSize + 1000)
	c, bulk := sealedBulk(t, inner)
	if err := released(t, c, bulk, inner); err != nil {
		t.Fatal(err)
	}
	for i := range bulk {
		if i > 200 && i%4099 != 0 && i < len(bulk)-40 {
			continue
		}
		bad := bytes.Clone(bulk)
		bad[i] ^= 0x40
		if err := released(t, c, bad, inner); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("octet %d of %d: %v", i, len(bulk), err)
		}
	}
	for n := 0; n < len(bulk); n += 1 + n/3 {
		if err := released(t, c, bulk[:n], inner); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	if _, err := Open(c, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no bulk part: %v", err)
	}
	// a footer that a relay put behind the content is never looked at
	if err := released(t, c, append(bytes.Clone(bulk), "-- \r\nfooter"...), inner); err != nil {
		t.Errorf("footer: %v", err)
	}
}

// TestTamperedControl changes each octet of the sealed control record.
func TestTamperedControl(t *testing.T) {
	outer, _ := seal(t, []byte("From: a@a.example\r\nSubject: x\r\n\r\nbody\r\n"), testOptions())
	o, err := open(outer)
	if err != nil {
		t.Fatal(err)
	}
	for i := range o.content {
		bad := bytes.Clone(o.content)
		bad[i] ^= 1
		if record, err := openControl(bad); err == nil {
			t.Fatalf("octet %d: %x", i, record)
		}
		if Ref(bad) == Ref(o.content) {
			t.Fatal("same reference")
		}
	}
}

// withKey makes the age file that a member who knows the key could make.
func withKey(t *testing.T, key FileKey, content []byte) []byte {
	t.Helper()
	b, err := encryptWithKey(key, content)
	if err != nil {
		t.Fatal(err)
	}
	r, n, err := age.DecryptReaderAt(bytes.NewReader(b), int64(len(b)), age.NewInjectedFileKeyIdentity(key[:]))
	if err != nil || n != int64(len(content)) {
		t.Fatalf("not an age file: %d, %v", n, err)
	}
	got := make([]byte, n)
	if _, err := r.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, content) {
		t.Fatal("not the age file of the content", err)
	}
	return b
}

// TestSwappedBulk: a member knows the file key and works with the provider.
// Other content under the right key is refused, and so are chunks in another
// order.
func TestSwappedBulk(t *testing.T) {
	inner := sized(3*ChunkSize + 1000)
	c, _ := sealedBulk(t, inner)
	padded := append(bytes.Clone(inner), make([]byte, c.PaddedSize-c.Size)...)
	if err := released(t, c, withKey(t, c.FileKey, padded), inner); err != nil {
		t.Fatalf("the same content under the same key: %v", err)
	}
	swap := func(name string, content []byte) {
		if err := released(t, c, withKey(t, c.FileKey, content), inner); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := bytes.Clone(padded)
	other[2*ChunkSize] ^= 1
	swap("one octet", other)
	other = bytes.Clone(padded)
	other[len(other)-1] = 1
	swap("padding", other)
	swap("reordered", append(append(bytes.Clone(padded[ChunkSize:2*ChunkSize]), padded[:ChunkSize]...), padded[2*ChunkSize:]...))
	swap("shorter", padded[:2*ChunkSize])
	swap("longer", append(bytes.Clone(padded), make([]byte, ChunkSize)...))
	otherMessage := append(sized(len(inner)-100), make([]byte, len(padded)-len(inner)+100)...)
	otherMessage[3] ^= 1
	swap("another message", otherMessage)
	_, foreign := sealedBulk(t, inner)
	if err := released(t, c, foreign, inner); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another key: %v", err)
	}
}

// TestPartTableLies: the sender's part table says other things than the
// content. Headers are compared wherever they are read, all of it once the
// content was read, and on demand.
func TestPartTableLies(t *testing.T) {
	inner := append([]byte("From: a@a.example\r\nSubject: true\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n"),
		randomText(5, 2*ChunkSize)...)
	inner = append(inner, "\r\n--b\r\nContent-Type: text/html\r\nX: true\r\n\r\n<p>\r\n--b--\r\n"...)
	clone := func(c *Control) *Control {
		b, err := c.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseControl(b)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	honest, bulk := sealedBulk(t, inner)
	for _, tt := range []struct {
		name string
		lie  func(root *mime.Part)
		at   int64 // octet at which it shows at once; -1: only at the end
	}{
		{"subject", func(p *mime.Part) { p.Header = bytes.Replace(p.Header, []byte("true"), []byte("lies"), 1) }, 0},
		{"part header", func(p *mime.Part) {
			c := p.Children[1]
			c.Header = bytes.Replace(c.Header, []byte("true"), []byte("lies"), 1)
		}, int64(len(inner)) - 1},
		{"lines", func(p *mime.Part) { p.Children[0].Lines-- }, -1},
		{"body length", func(p *mime.Part) { p.Children[0].BodyLength -= 100 }, -1},
		{"missing part", func(p *mime.Part) { p.Children = p.Children[:1] }, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := clone(honest)
			tt.lie(c.Skeleton)
			c = clone(c)
			m, err := Open(c, bulkBytes(bulk))
			if err != nil {
				t.Fatal(err)
			}
			if tt.at >= 0 {
				if _, err := m.ReadAt(make([]byte, 1), tt.at); !errors.Is(err, ErrCorrupt) {
					t.Errorf("read at %d: %v", tt.at, err)
				}
			}
			if m, err = Open(c, bulkBytes(bulk)); err != nil {
				t.Fatal(err)
			}
			if err := m.Verify(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("verify: %v", err)
			}
			if _, err := m.ReadAt(make([]byte, 1), ChunkSize); !errors.Is(err, ErrCorrupt) {
				t.Errorf("read after verify: %v", err)
			}
			if m, err = Open(c, bulkBytes(bulk)); err != nil {
				t.Fatal(err)
			}
			got, err := readAll(m)
			if !errors.Is(err, ErrCorrupt) || len(got) == len(inner) {
				t.Errorf("read in order: %d octets, %v", len(got), err)
			}
		})
	}
	m, err := Open(honest, bulkBytes(bulk))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Verify(), m.Verify()); err != nil {
		t.Errorf("the truth: %v", err)
	}
	if sha256.Sum256(mustRead(t, m)) != sha256.Sum256(inner) {
		t.Error("other octets after verify")
	}
}

func mustRead(t *testing.T, m *Message) []byte {
	t.Helper()
	b, err := readAll(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// flaky is a source that loses its connection now and then.
type flaky struct {
	bulkBytes
	broken bool
}

func (f *flaky) ReadAt(p []byte, off int64) (int, error) {
	if f.broken {
		return 0, io.ErrClosedPipe
	}
	return f.bulkBytes.ReadAt(p, off)
}

// TestSourceErrorsAreNotCorruption: a lost connection must not be taken for a
// forged message, and reading can go on when it is back.
func TestSourceErrorsAreNotCorruption(t *testing.T) {
	inner := sized(3 * ChunkSize)
	c, bulk := sealedBulk(t, inner)
	f := &flaky{bulkBytes: bulk, broken: true}
	if _, err := Open(c, f); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
	f.broken = false
	m, err := Open(c, f)
	if err != nil {
		t.Fatal(err)
	}
	f.broken = true
	if _, err := m.ReadAt(make([]byte, 10), 0); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrCorrupt) {
		t.Errorf("read: %v", err)
	}
	f.broken = false
	if !bytes.Equal(mustRead(t, m), inner) {
		t.Error("other octets")
	}
}
