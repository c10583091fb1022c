package mailseal

import (
	"bytes"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// endless is a message of any size that needs no memory, and notes how much
// there was in use while it was read.
type endless struct {
	size int64
	peak uint64
	next int64
}

const endlessHeader = "From: a@a.example\r\nSubject: large\r\n\r\n"

var endlessLines = strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", 2000)

func (e *endless) ReadAt(p []byte, off int64) (int, error) {
	if off >= e.next {
		e.next = off + 4<<20
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		e.peak = max(e.peak, m.HeapAlloc)
	}
	n := 0
	if off < int64(len(endlessHeader)) {
		n = copy(p, endlessHeader[off:])
	}
	for n < len(p) {
		n += copy(p[n:], endlessLines[(off+int64(n))%38:])
	}
	return len(p), nil
}

// TestConstantMemory seals and opens 50 MB, holding only what the test itself
// holds: the outer message.
func TestConstantMemory(t *testing.T) {
	const size, allowed = 50 << 20, 24 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(5)) // garbage does not count
	outer := make([]byte, 0, size/57*78+4<<20)
	w := &appender{b: outer}
	inner := &endless{size: size}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if _, err := Seal(w, inner, size, testOptions()); err != nil {
		t.Fatal(err)
	}
	if inner.peak > before.HeapAlloc+allowed {
		t.Errorf("sealing held %d KiB", (inner.peak-before.HeapAlloc)>>10)
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	o, err := open(w.b)
	if err != nil {
		t.Fatal(err)
	}
	buf, want := make([]byte, 100_000), make([]byte, 100_000)
	var peak uint64
	for off := int64(0); off < size; off += int64(len(buf)) {
		n, err := o.message.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if _, err := inner.ReadAt(want[:n], off); err != nil || !bytes.Equal(buf[:n], want[:n]) {
			t.Fatalf("other octets at %d", off)
		}
		if off%(4<<20) < int64(len(buf)) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	if peak > before.HeapAlloc+allowed {
		t.Errorf("opening held %d KiB", (peak-before.HeapAlloc)>>10)
	}
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	if len(a.b)+len(p) > cap(a.b) {
		return 0, io.ErrShortBuffer
	}
	a.b = append(a.b, p...)
	return len(p), nil
}

func TestPaddedSize(t *testing.T) {
	for _, tt := range []struct{ n, want int64 }{
		{1, 1}, {9, 10}, {InlineMax + 1, 51200}, {1 << 20, 1 << 20}, {1<<20 + 1, 1<<20 + 32<<10},
	} {
		if got := paddedSize(tt.n); got != tt.want {
			t.Errorf("%d octets become %d, want %d", tt.n, got, tt.want)
		}
	}
	sizes := map[int64]bool{}
	for n := int64(InlineMax); n < 60<<20; n += 997 {
		p := paddedSize(n)
		if p < n || p > n+n/16 || paddedSize(p) != p {
			t.Fatalf("%d octets become %d", n, p)
		}
		sizes[p] = true
	}
	if len(sizes) > 400 {
		t.Errorf("%d different sizes", len(sizes))
	}
}

func TestMaxInner(t *testing.T) {
	for _, limit := range []int64{1 << 20, 10 << 20, 25 << 20, 35651584, 100 << 20} {
		n := MaxInner(limit)
		p, err := Prepare(&endless{size: n}, n, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if p.Size > limit {
			t.Errorf("%d octets become %d, the limit is %d", n, p.Size, limit)
		}
		if n < limit*2/3-64<<10 {
			t.Errorf("only %d octets fit a limit of %d", n, limit)
		}
	}
	if MaxInner(0) != MaxSize || MaxInner(1000) != 0 {
		t.Error("no limit, or none at all")
	}
}
