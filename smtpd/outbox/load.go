package outbox

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// load reads the queue from disk and clears away what a crash left.
func (q *Queue) load() (warnings []error, err error) {
	folders, err := q.list(".")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		switch {
		case strings.HasPrefix(folder, "hold-"):
			if err := q.root.RemoveAll(folder); err != nil {
				return nil, err
			}
		case strings.HasPrefix(folder, "queue-"):
			found, err := q.loadBatch(folder)
			if err != nil {
				return nil, err
			}
			warnings = append(warnings, found...)
		}
	}
	return warnings, q.sync(".")
}

func (q *Queue) list(folder string) ([]string, error) {
	f, err := q.root.Open(folder)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

func (q *Queue) loadBatch(folder string) (warnings []error, err error) {
	names, err := q.list(folder)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		base, isEnvelope := strings.CutSuffix(name, ".json")
		if !isEnvelope {
			continue
		}
		e, err := q.read(folder, base)
		if err != nil {
			file := path.Join(folder, name)
			warnings = append(warnings, fmt.Errorf("outbox entry %s set aside: %w", file, err))
			if err := q.root.Rename(file, path.Join(folder, base+".bad")); err != nil {
				return nil, err
			}
			continue
		}
		q.entries[e.key()] = e
		q.bytes += e.Size
	}
	return warnings, q.sweep(folder, names)
}

// read reads one envelope. An attempt that a crash cut short counts as one
// without an answer.
func (q *Queue) read(folder, base string) (*Entry, error) {
	f, err := q.root.Open(path.Join(folder, base+".json"))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxEnvelope))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	e, err := parseEnvelope(b)
	if err != nil {
		return nil, err
	}
	e.folder, e.base = folder, base
	info, err := q.root.Stat(e.key() + ".msg")
	if err != nil {
		return nil, err
	}
	if info.Size() != e.Size {
		return nil, fmt.Errorf("%w: %d octets instead of %d", ErrAltered, info.Size(), e.Size)
	}
	return e, nil
}

func parseEnvelope(b []byte) (*Entry, error) {
	var e Entry
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, err
	}
	hashed, err := hex.DecodeString(e.SHA256)
	switch {
	case e.Version != formatVersion:
		return nil, fmt.Errorf("format version %d is unknown", e.Version)
	case err != nil || len(hashed) != 32:
		return nil, errors.New("malformed hash")
	case e.ID == "" || len(e.Recipients) == 0 || e.Size < 0:
		return nil, errors.New("incomplete envelope")
	}
	if e.Started {
		e.Started, e.Resent = false, true
	}
	return &e, nil
}

// sweep removes octets whose envelope is gone: the entry was finished.
func (q *Queue) sweep(folder string, names []string) error {
	left := false
	for _, name := range names {
		base, isContent := strings.CutSuffix(name, ".msg")
		stale := strings.HasSuffix(name, ".new")
		if isContent {
			_, queued := q.entries[path.Join(folder, base)]
			_, err := q.root.Stat(path.Join(folder, base+".bad"))
			stale = !queued && errors.Is(err, fs.ErrNotExist)
		}
		if !stale {
			left = true
			continue
		}
		if err := q.root.Remove(path.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if left {
		return nil
	}
	return q.root.Remove(folder)
}

// verifiedFile compares the octets with a hash at their end.
type verifiedFile struct {
	f    *os.File
	hash hash.Hash
	want string
}

// Read implements io.Reader.
func (v *verifiedFile) Read(p []byte) (int, error) {
	n, err := v.f.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(v.hash.Sum(nil)) != v.want {
		return n, ErrAltered
	}
	return n, err
}

// Close implements io.Closer.
func (v *verifiedFile) Close() error { return v.f.Close() }
