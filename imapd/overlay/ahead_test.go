package overlay

import (
	"bytes"
	"io"
	"testing"
)

// streamed is a part at a provider that counts what is asked for.
type streamed struct {
	raw              []byte
	fetches, streams int
	octets           int64 // that left the provider
	longest          int64
	cut              int // pieces after which a run breaks off; 0 for never
	err              error
}

func (s *streamed) piece(off, n int64) []byte {
	off = min(off, int64(len(s.raw)))
	p := s.raw[off:min(off+n, int64(len(s.raw)))]
	s.octets += int64(len(p))
	return bytes.Clone(p)
}

func (s *streamed) fetch(off, n int64) ([]byte, error) {
	s.fetches++
	return s.piece(off, n), nil
}

func (s *streamed) stream(off, n, size int64) (func() ([]byte, error), error) {
	s.streams++
	s.longest = max(s.longest, n)
	left, given := n, 0
	return func() ([]byte, error) {
		if left == 0 || s.cut > 0 && given == s.cut || off >= int64(len(s.raw)) {
			return nil, io.EOF
		}
		if s.err != nil {
			return nil, s.err
		}
		p := s.piece(off, min(left, size))
		off, left, given = off+int64(len(p)), left-int64(len(p)), given+1
		return p, nil
	}, nil
}

// TestBulkReadsAhead: what is read in one direction is asked for in few, growing
// runs, and whatever becomes of a run the content is the same.
func TestBulkReadsAhead(t *testing.T) {
	content := make([]byte, 6_000_001)
	for i := range content {
		content[i] = byte(i * i >> 9)
	}
	for name, tt := range map[string]struct {
		encoding string
		cut      int
		err      error
		spoil    bool
		requests int // at most
	}{
		"base64":         {encoding: "base64", requests: 12},
		"binary":         {encoding: "binary", requests: 10},
		"broken off":     {encoding: "base64", cut: 1, requests: 40},
		"not answered":   {encoding: "base64", err: io.ErrUnexpectedEOF, requests: 40},
		"a line astray":  {encoding: "base64", spoil: true, requests: 60},
		"answered empty": {encoding: "binary", err: io.EOF, requests: 40},
	} {
		t.Run(name, func(t *testing.T) {
			raw := content
			if tt.encoding == "base64" {
				raw = encode(content, 76, "\r\n", "")
			}
			if tt.spoil { // found in the middle of a run
				at := len(raw) / 78 * 3 / 4 * 78
				raw = append(append(bytes.Clone(raw[:at]), "\r\n"...), raw[at:]...)
			}
			p := &streamed{raw: raw, cut: tt.cut, err: tt.err}
			b := NewBulk(tt.encoding, int64(len(raw)), p.fetch)
			b.ReadAhead(p.stream)
			got, err := io.ReadAll(io.NewSectionReader(b, 0, int64(len(content))))
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%d octets, %v", len(got), err)
			}
			if n := p.fetches + p.streams; n > tt.requests {
				t.Errorf("%d requests, %d of them for runs", n, p.streams)
			}
			if tt.err != nil && p.streams != 1 {
				t.Errorf("%d runs from a provider that does not answer them", p.streams)
			}
			if tt.cut > 0 && p.longest > 2*bulkWindow {
				t.Errorf("%d octets in a run where runs break off", p.longest)
			}
			for _, off := range []int64{5_000_000, 10, 2_500_000, 2_570_000, 2_640_000, 0} {
				buf := make([]byte, 70_000)
				if _, err := b.ReadAt(buf, off); err != nil || !bytes.Equal(buf, content[off:off+70_000]) {
					t.Errorf("at %d: %v", off, err)
				}
			}
		})
	}
}

// TestBulkAtRandomIsNotReadAhead: runs are for those who read in one direction.
func TestBulkAtRandomIsNotReadAhead(t *testing.T) {
	p := &streamed{raw: make([]byte, 8<<20)}
	b := NewBulk("binary", int64(len(p.raw)), p.fetch)
	b.ReadAhead(p.stream)
	for _, off := range []int64{7 << 20, 1 << 20, 5 << 20, 3 << 20} {
		if _, err := b.ReadAt(make([]byte, 100), off); err != nil {
			t.Fatal(err)
		}
	}
	if p.streams > 0 || p.octets > 4*bulkWindow {
		t.Errorf("%d runs, %d octets", p.streams, p.octets)
	}
}
