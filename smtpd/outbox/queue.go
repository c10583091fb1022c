// Package outbox is a durable queue of ciphertexts that still have to be sent.
//
// On disk, below one folder that only the owner can read:
//
//	hold-<batch>/    written, but not to be sent yet
//	queue-<batch>/   to be sent
//	   00.msg        the octets
//	   00.json       the envelope, the SHA-256 of the octets, the attempts
//	   00.bad        an envelope that could not be read; kept for people
//	lock             empty; locked while the queue is open
//
// A batch enters the queue by the renaming of its folder, so all of it enters
// or none. An entry leaves with its 00.json. Every change is on disk, folder
// included, before the call returns; a batch still held when the queue is
// opened belongs to a submission that was never confirmed and is dropped.
package outbox

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// Limits of a queue.
const (
	// MaxEntries and MaxBytes bound what may wait: a provider that is down for
	// days must not fill the disk.
	MaxEntries = 10_000
	MaxBytes   = 4 << 30
	// maxEnvelope bounds a .json file.
	maxEnvelope = 1 << 20

	formatVersion = 1
)

// ErrFull says that the queue holds as much as it may.
var ErrFull = errors.New("outbox is full")

// ErrAltered says that the octets on disk are not those that were stored.
var ErrAltered = errors.New("outbox entry was altered on disk")

// Entry is one message that waits. It holds no secrets but addresses.
type Entry struct {
	Version    int       `json:"version"`
	ID         string    `json:"id"`
	Username   string    `json:"username"`
	From       string    `json:"from"`
	Recipients []string  `json:"recipients"`
	Size       int64     `json:"size"`
	SHA256     string    `json:"sha256"`
	UTF8       bool      `json:"utf8,omitempty"`
	EightBit   bool      `json:"eight_bit,omitempty"`
	Note       string    `json:"note,omitempty"`
	Notify     Notify    `json:"notify,omitzero"`
	Created    time.Time `json:"created"`
	Attempts   int       `json:"attempts"`
	Next       time.Time `json:"next"`
	// Started is set while an attempt is under way; found set after a crash it
	// means that the provider may have the message.
	Started bool `json:"started,omitempty"`
	// Resent is set once an attempt ended without an answer.
	Resent bool `json:"resent,omitempty"`

	folder, base string // where it is
}

// Item is what Hold stores.
type Item struct {
	Entry Entry // Size, SHA256, Version and the attempts are filled in
	Open  func() (io.ReadCloser, error)
}

// Queue is an open queue. It is safe for concurrent use; one process at a time
// may have it open.
type Queue struct {
	root *os.Root
	lock io.Closer
	wake chan struct{}

	mu      sync.Mutex
	entries map[string]*Entry // by folder/base
	bytes   int64
}

// Open opens or creates a queue. Entries that cannot be read are set aside
// under another name and reported in warnings; the queue works without them.
// ErrLocked: another process has it open.
func Open(dir string) (q *Queue, warnings []error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("open outbox: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder needs x
		return nil, nil, fmt.Errorf("open outbox: %w", err)
	}
	locked, err := lock(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open outbox: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open outbox: %w", err), locked.Close())
	}
	q = &Queue{root: root, lock: locked, wake: make(chan struct{}, 1), entries: make(map[string]*Entry)}
	if warnings, err = q.load(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open outbox: %w", err), q.Close())
	}
	return q, warnings, nil
}

// Close frees the queue.
func (q *Queue) Close() error { return errors.Join(q.root.Close(), q.lock.Close()) }

// Wake yields when an entry was added.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

// Len returns how many entries wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}

// Usernames lists whose entries wait, sorted.
func (q *Queue) Usernames() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var names []string
	for _, e := range q.entries {
		names = append(names, e.Username)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Next returns the entry of a user name that is due first, or false if none
// waits. The caller has to look at its Next time.
func (q *Queue) Next(username string) (Entry, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *Entry
	for _, e := range q.entries {
		if e.Username != username {
			continue
		}
		if first == nil || e.Next.Before(first.Next) || e.Next.Equal(first.Next) && e.key() < first.key() {
			first = e
		}
	}
	if first == nil {
		return Entry{}, false
	}
	return first.clone(), true
}

func (e *Entry) key() string { return path.Join(e.folder, e.base) }

func (e *Entry) clone() Entry {
	c := *e
	c.Recipients = slices.Clone(e.Recipients)
	return c
}

// Batch is what Hold stored. Exactly one of Release and Discard must be
// called.
type Batch struct {
	q       *Queue
	name    string
	entries []*Entry
	bytes   int64
}

// Hold stores items without queueing them. When it returns they are on disk.
func (q *Queue) Hold(items []Item, now time.Time) (*Batch, error) {
	b := &Batch{q: q, name: strings.ToLower(rand.Text())}
	for _, item := range items {
		b.bytes += item.Entry.Size
	}
	q.mu.Lock()
	full := len(q.entries)+len(items) > MaxEntries || q.bytes+b.bytes > MaxBytes
	q.mu.Unlock()
	if full {
		return nil, ErrFull
	}
	folder := "hold-" + b.name
	if err := q.root.Mkdir(folder, 0o700); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	for i, item := range items {
		e, err := q.write(folder, fmt.Sprintf("%03d", i), item, now)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("outbox: %w", err), q.root.RemoveAll(folder))
		}
		b.entries = append(b.entries, e)
	}
	if err := errors.Join(q.sync(folder), q.sync(".")); err != nil {
		return nil, errors.Join(fmt.Errorf("outbox: %w", err), q.root.RemoveAll(folder))
	}
	return b, nil
}

// write stores the octets and then the envelope of one item.
func (q *Queue) write(folder, base string, item Item, now time.Time) (*Entry, error) {
	e := item.Entry.clone()
	e.Version, e.Created, e.Next = formatVersion, now.UTC().Round(0), now.UTC().Round(0)
	e.folder, e.base = folder, base
	content, err := item.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }() // it was only read
	f, err := q.root.OpenFile(path.Join(folder, base+".msg"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), content)
	if err == nil && n != e.Size {
		err = fmt.Errorf("content has %d octets instead of %d", n, e.Size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	e.SHA256 = hex.EncodeToString(hash.Sum(nil))
	crashpoint.Here("outbox-content-stored")
	return &e, q.writeEnvelope(&e)
}

// writeEnvelope replaces the .json file of an entry in one step.
func (q *Queue) writeEnvelope(e *Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	name := e.key() + ".json"
	f, err := q.root.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	crashpoint.Here("outbox-envelope-written")
	if err := q.root.Rename(name+".new", name); err != nil {
		return err
	}
	return q.sync(e.folder)
}

// sync makes the names in a folder durable.
func (q *Queue) sync(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there; renames are journaled
	}
	f, err := q.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Release queues the batch. When it returns that is on disk.
func (b *Batch) Release() error {
	folder := "queue-" + b.name
	if err := b.q.root.Rename("hold-"+b.name, folder); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	b.q.mu.Lock()
	for _, e := range b.entries {
		e.folder = folder
		b.q.entries[e.key()] = e
	}
	b.q.bytes += b.bytes
	b.q.mu.Unlock()
	select {
	case b.q.wake <- struct{}{}:
	default:
	}
	if err := b.q.sync("."); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// Discard drops the batch.
func (b *Batch) Discard() error {
	if err := errors.Join(b.q.root.RemoveAll("hold-"+b.name), b.q.sync(".")); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// OpenContent returns the octets of an entry; reading them to the end ends
// with ErrAltered if they are not what was stored.
func (q *Queue) OpenContent(e Entry) (io.ReadCloser, error) {
	f, err := q.root.Open(e.key() + ".msg")
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return &verifiedFile{f: f, hash: sha256.New(), want: e.SHA256}, nil
}

// Start notes that an attempt begins, before anything is sent, and brings e up
// to date. An earlier attempt whose end could not be noted counts as one without
// an answer.
func (q *Queue) Start(e *Entry) error {
	return q.change(e, func(e *Entry) {
		e.Resent = e.Resent || e.Started
		e.Started = true
		e.Attempts++
	})
}

// Retry notes that an attempt failed and when to try again. unknown says that
// the provider may have taken the message.
func (q *Queue) Retry(e Entry, next time.Time, unknown bool) error {
	return q.change(&e, func(e *Entry) {
		e.Started, e.Next = false, next.UTC().Round(0)
		e.Resent = e.Resent || unknown
	})
}

func (q *Queue) change(e *Entry, f func(*Entry)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	have := q.entries[e.key()]
	if have == nil {
		return fmt.Errorf("outbox: entry %s is gone", e.ID)
	}
	changed := have.clone()
	f(&changed)
	if err := q.writeEnvelope(&changed); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	*have = changed
	*e = changed.clone()
	return nil
}

// Remove ends an entry: it was sent, or its sender was told that it was not.
func (q *Queue) Remove(e Entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	have := q.entries[e.key()]
	if have == nil {
		return nil
	}
	if err := q.root.Remove(e.key() + ".json"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := q.sync(e.folder); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	crashpoint.Here("outbox-envelope-removed")
	delete(q.entries, e.key())
	q.bytes -= have.Size
	if err := q.root.Remove(e.key() + ".msg"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("outbox: %w", err)
	}
	// The folder goes with its last file; until then this fails, as it should.
	_ = q.root.Remove(e.folder)
	return nil
}
