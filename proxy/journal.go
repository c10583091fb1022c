package proxy

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// Limits of the journal.
const (
	maxFailed = 32
	maxForks  = 64
)

// FailedDelivery is a copy that could not be delivered after its submission
// was accepted. A notice about it went to INBOX.
type FailedDelivery struct {
	Time       time.Time `json:"time"`
	Recipients []string  `json:"recipients"`
	Text       string    `json:"text"` // one line, the provider's words
}

// journal keeps what people should still see after a restart, sealed in the
// local cache. Losing it loses no mail.
type journal struct {
	cache *cloudmls.Cache
	mu    sync.Mutex
}

type journalRecord struct {
	Version int                  `json:"v"`
	Failed  []FailedDelivery     `json:"failed,omitempty"` // newest first
	Forks   map[string]time.Time `json:"forks,omitempty"`  // by conversation
}

const journalKey = "journal"

func newJournal(client *cloudmls.Client, id string) *journal {
	return &journal{cache: client.Cache("mail/journal/" + id)}
}

func (j *journal) read() (*journalRecord, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.load()
}

func (j *journal) load() (*journalRecord, error) {
	r := &journalRecord{Version: 1}
	b, err := j.cache.Get(journalKey)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	if b == nil {
		return r, nil
	}
	if err := json.Unmarshal(b, r); err != nil || r.Version != 1 {
		return &journalRecord{Version: 1}, nil // of another version; it can be lost
	}
	return r, nil
}

func (j *journal) change(f func(r *journalRecord)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, err := j.load()
	if err != nil {
		return err
	}
	f(r)
	return storeJSON(j.cache, journalKey, r)
}

// failed adds a delivery that was given up.
func (j *journal) failed(d FailedDelivery) error {
	return j.change(func(r *journalRecord) { r.addFailed(d) })
}

func (r *journalRecord) addFailed(d FailedDelivery) {
	r.Failed = append([]FailedDelivery{d}, r.Failed[:min(len(r.Failed), maxFailed-1)]...)
}

// fork remembers when a conversation last showed two states; see standing.
func (j *journal) fork(id groupid.ID, now time.Time) error {
	return j.change(func(r *journalRecord) { r.addFork(id, now) })
}

func (r *journalRecord) addFork(id groupid.ID, now time.Time) {
	if _, known := r.Forks[id.String()]; !known && len(r.Forks) >= maxForks {
		clear(r.Forks)
	}
	if r.Forks == nil {
		r.Forks = make(map[string]time.Time)
	}
	r.Forks[id.String()] = now
}
