package spool

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func fill(t *testing.T, s *Spool, b []byte, step int) {
	t.Helper()
	for len(b) > 0 {
		n := min(step, len(b))
		if _, err := s.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
}

func TestReadsBackWhatWasWritten(t *testing.T) {
	const memory = 100 << 10
	for _, n := range []int{0, 1, memory, memory + 1, 2 * chunkSize, 5*chunkSize + 17} {
		for _, step := range []int{999, chunkSize, 1 << 20} {
			s := New(t.TempDir(), memory)
			want := content(n)
			fill(t, s, want, step)
			if s.Size() != int64(n) || s.OnDisk() != (n > memory) {
				t.Errorf("n=%d: size %d, on disk %v", n, s.Size(), s.OnDisk())
			}
			got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("n=%d step=%d: content differs (%v)", n, step, err)
			}
			for range 50 {
				off := rand.Int64N(int64(n) + 1)
				p := make([]byte, min(3000, int64(n)-off))
				if _, err := s.ReadAt(p, off); err != nil || !bytes.Equal(p, want[off:off+int64(len(p))]) {
					t.Fatalf("n=%d: ReadAt(%d at %d) differs (%v)", n, len(p), off, err)
				}
			}
			if _, err := s.ReadAt(make([]byte, 1), int64(n)); err != io.EOF {
				t.Errorf("read past the end: %v, want EOF", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDiskHoldsNoPlaintext(t *testing.T) {
	dir := t.TempDir()
	s := New(dir, 1000)
	defer s.Close()
	canary := []byte("CANARY-in-the-message")
	fill(t, s, bytes.Repeat(canary, 10_000), 4096)
	if !s.OnDisk() {
		t.Fatal("the content is not on disk")
	}
	raw := make([]byte, offset(s.sealed))
	if _, err := s.file.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, canary[:8]) {
		t.Error("the temporary file holds plaintext")
	}
	if info, err := s.file.Stat(); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v, %v; want owner only", info.Mode(), err)
	}
}

func TestAlteredFileIsAnError(t *testing.T) {
	s := New(t.TempDir(), 10)
	defer s.Close()
	fill(t, s, content(3*chunkSize+5), chunkSize)
	if _, err := s.file.WriteAt([]byte{1, 2, 3, 4}, chunkSize+tagSize+100); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAt(make([]byte, 10), 0); err != nil {
		t.Errorf("untouched chunk: %v", err)
	}
	if _, err := s.ReadAt(make([]byte, 10), chunkSize); err == nil {
		t.Error("an altered chunk was read without an error")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := New(dir, 10)
	fill(t, s, content(chunkSize), chunkSize)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := s.ReadAt(make([]byte, 1), 0); err != os.ErrClosed {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("write after Close succeeded")
	}
}

// TestReadsWhileItIsWritten: what is there is read at once, from the memory, from the
// file and from the chunk under way.
func TestReadsWhileItIsWritten(t *testing.T) {
	s := New(t.TempDir(), 1000)
	defer s.Close()
	want := content(3*chunkSize + 17)
	for at := 0; at < len(want); {
		n := min(9001, len(want)-at)
		if _, err := s.Write(want[at : at+n]); err != nil {
			t.Fatal(err)
		}
		at += n
		got := make([]byte, at)
		if k, err := s.ReadAt(got, 0); k != at || err != nil || !bytes.Equal(got, want[:at]) {
			t.Fatalf("after %d octets: %d read, %v", at, k, err)
		}
		if k, err := s.ReadAt(make([]byte, 2), int64(at-1)); k != 1 || err != io.EOF {
			t.Fatalf("past the end: %d read, %v", k, err)
		}
	}
}

// TestFailedWriteStays: after a write that failed, nothing of the content passes for
// the whole.
func TestFailedWriteStays(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "missing"), 10)
	if _, err := s.Write(content(5)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(content(10)); err == nil {
		t.Fatal("written into a folder that is not there")
	}
	if _, err := s.Write(content(1)); err == nil {
		t.Error("goes on after a write that failed")
	}
	if _, err := s.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("gives a part for the whole")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
