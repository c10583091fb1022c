package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const owner = "alice@example.org"

func item(id, content string) Item {
	return Item{
		Entry: Entry{ID: id, Username: owner, From: "alice@example.org", Recipients: []string{"bob@example.net"}, Size: int64(len(content))},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

func open(t *testing.T, dir string) (*Queue, []error) {
	t.Helper()
	q, warnings, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q, warnings
}

func add(t *testing.T, q *Queue, items ...Item) {
	t.Helper()
	b, err := q.Hold(items, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Release(); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, q *Queue) []string {
	t.Helper()
	var out []string
	for {
		e, ok := q.Next(owner)
		if !ok {
			return out
		}
		f, err := q.OpenContent(e)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		out = append(out, e.ID+"="+string(b))
		if err := q.Remove(e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSurvivesReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	q, _ := open(t, dir)
	add(t, q, item("1", "one"), item("2", "two"))
	e, _ := q.Next(owner)
	if err := q.Start(&e); err != nil {
		t.Fatal(err)
	}
	_ = q.Close() // an attempt was under way

	q, warnings := open(t, dir)
	if len(warnings) != 0 || q.Len() != 2 {
		t.Fatalf("warnings %v, %d entries", warnings, q.Len())
	}
	e, _ = q.Next(owner)
	if !e.Resent || e.Started || e.Attempts != 1 {
		t.Errorf("entry = %+v, want it marked as perhaps sent", e)
	}
	if err := q.Retry(e, time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	if second, _ := q.Next(owner); second.ID == e.ID {
		t.Error("a postponed entry comes first")
	}
	if got := contents(t, q); len(got) != 2 || got[0] != "2=two" || got[1] != "1=one" {
		t.Errorf("contents = %v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	q, _ := open(t, dir)
	add(t, q, item("1", "one"))
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHeldBatchIsNotSent(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir)
	b, err := q.Hold([]Item{item("1", "one")}, time.Now())
	if err != nil || q.Len() != 0 {
		t.Fatalf("Hold: %v, %d entries", err, q.Len())
	}
	_ = q.Close()
	q, _ = open(t, dir) // the client never got its 250
	if q.Len() != 0 {
		t.Error("a held batch came back")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := b.Release(); err == nil {
		t.Error("a dropped batch was released")
	}
}

func TestFailedHoldLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir)
	bad := item("2", "two")
	bad.Entry.Size++
	if _, err := q.Hold([]Item{item("1", "one"), bad}, time.Now()); err == nil {
		t.Error("a short content was stored")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	huge := item("3", "x")
	huge.Entry.Size = MaxBytes + 1
	if _, err := q.Hold([]Item{huge}, time.Now()); !errors.Is(err, ErrFull) {
		t.Errorf("err = %v, want ErrFull", err)
	}
}

func TestDamage(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir)
	add(t, q, item("1", "one"), item("2", "two"), item("3", "three"))
	_ = q.Close()
	batch, _ := filepath.Glob(filepath.Join(dir, "queue-*"))
	if err := os.WriteFile(filepath.Join(batch[0], "000.json"), []byte(`{"version":1`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(batch[0], "001.msg"), []byte("TWO"), 0o600); err != nil {
		t.Fatal(err)
	}
	q, warnings := open(t, dir)
	if len(warnings) != 1 || q.Len() != 2 {
		t.Fatalf("warnings %v, %d entries; want one and two", warnings, q.Len())
	}
	if _, err := os.Stat(filepath.Join(batch[0], "000.bad")); err != nil {
		t.Errorf("the unreadable envelope is gone: %v", err)
	}
	if _, err := os.Stat(filepath.Join(batch[0], "000.msg")); err != nil {
		t.Errorf("its octets are gone: %v", err)
	}
	e, _ := q.Next(owner)
	f, err := q.OpenContent(e)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadAll(f); !errors.Is(err, ErrAltered) {
		t.Errorf("reading altered octets: %v, want ErrAltered", err)
	}
}

// TestKill kills a process at many points while it works on a queue: whatever
// it had confirmed must be there afterwards, whole.
func TestKill(t *testing.T) {
	if dir := os.Getenv("OUTBOX_TEST_DIR"); dir != "" {
		work(dir)
		return
	}
	for round := range 12 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "OUTBOX_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		confirmed := make(map[string]bool)
		buf := make([]byte, 4096)
		var said bytes.Buffer
		for said.Len() < 40*(round+1) {
			n, err := out.Read(buf)
			said.Write(buf[:n])
			if err != nil {
				break
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		said.Write(rest)
		_ = cmd.Wait() // it was killed
		for line := range strings.Lines(said.String()) {
			action, id, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			if !ok || !strings.HasSuffix(line, "\n") {
				continue
			}
			switch action {
			case "added":
				confirmed[id] = true
			case "removing":
				delete(confirmed, id) // it may be gone or not
			}
		}
		q, warnings := open(t, dir)
		if len(warnings) != 0 {
			t.Errorf("round %d: %v", round, warnings)
		}
		for _, c := range contents(t, q) {
			id, body, _ := strings.Cut(c, "=")
			if body != strings.Repeat(id+";", 1000) {
				t.Errorf("round %d: entry %s is not whole", round, id)
			}
			delete(confirmed, id)
		}
		if len(confirmed) != 0 {
			t.Errorf("round %d: lost %v", round, confirmed)
		}
	}
}

// work adds and removes entries until it is killed.
func work(dir string) {
	q, _, err := Open(dir)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for i := range 100_000 {
		id := fmt.Sprint("e", i)
		b, err := q.Hold([]Item{item(id, strings.Repeat(id+";", 1000))}, time.Now())
		if err == nil {
			err = b.Release()
		}
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("added", id)
		e, _ := q.Next(owner)
		if i%3 == 0 {
			fmt.Println("removing", e.ID)
			_ = q.Start(&e)
			_ = q.Remove(e)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"x","recipients":["a@b"],"size":3,"sha256":"` + strings.Repeat("ab", 32) + `","started":true}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEnvelope(b)
		if err == nil && (e.ID == "" || len(e.Recipients) == 0 || e.Started || e.Size < 0) {
			t.Errorf("accepted %+v", e)
		}
	})
}
