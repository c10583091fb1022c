package proxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/imapd"
)

// indexSegment is how many UIDs share one record: a window of new messages
// costs a few writes, a single one rewrites little.
const indexSegment = 256

// metaKey holds how far a mailbox was classified.
const metaKey = "meta"

// index is an imapd.Index in the sealed local cache, one namespace a mailbox.
// Losing it costs time only, but for stubs: see imapd.Index.
type index struct {
	cache func(mailbox string) *cloudmls.Cache
	// renumbered is told of mailboxes whose UIDVALIDITY changed.
	renumbered func(mailbox string)
	mu         sync.Mutex // serialises read-modify-write
}

var _ imapd.Index = (*index)(nil)

func newIndex(cache func(mailbox string) *cloudmls.Cache) *index {
	return &index{cache: cache, renumbered: func(string) {}}
}

// indexMeta is the record of a mailbox.
type indexMeta struct {
	UIDValidity  uint32 `json:"uidvalidity"`
	ClassifiedTo uint32 `json:"classified_to"`
}

// Load implements imapd.Index.
func (x *index) Load(mailbox string, uidValidity uint32) (imapd.IndexState, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.cache(mailbox)
	meta, err := loadMeta(c)
	if err != nil {
		return imapd.IndexState{}, err
	}
	var state imapd.IndexState
	switch meta.UIDValidity {
	case uidValidity:
		state.ClassifiedTo = meta.ClassifiedTo
	case 0: // never seen before
	default:
		x.renumbered(mailbox)
	}
	prefix := segmentPrefix(uidValidity)
	var stale []string
	err = c.ForEach(func(key string, value []byte) error {
		switch {
		case key == metaKey:
			return nil
		case !strings.HasPrefix(key, prefix):
			stale = append(stale, key)
			return nil
		}
		entries, err := parseSegment(value)
		if err != nil {
			return err
		}
		state.Merge(imapd.IndexChange{Put: entries})
		return nil
	})
	if err != nil {
		return imapd.IndexState{}, fmt.Errorf("load the index of a mailbox: %w", err)
	}
	for _, key := range stale {
		if err := c.Delete(key); err != nil {
			return imapd.IndexState{}, fmt.Errorf("drop an old index: %w", err)
		}
	}
	return state, nil
}

// Update implements imapd.Index.
func (x *index) Update(mailbox string, uidValidity uint32, change imapd.IndexChange) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.cache(mailbox)
	touched := make(map[uint32]imapd.IndexChange)
	for uid, e := range change.Put {
		s := touched[uid/indexSegment]
		if s.Put == nil {
			s.Put = make(map[uint32]imapd.IndexEntry)
		}
		s.Put[uid] = e
		touched[uid/indexSegment] = s
	}
	for _, uid := range change.Delete {
		s := touched[uid/indexSegment]
		s.Delete = append(s.Delete, uid)
		touched[uid/indexSegment] = s
	}
	for segment, ch := range touched {
		if err := updateSegment(c, segmentPrefix(uidValidity)+strconv.FormatUint(uint64(segment), 10), ch); err != nil {
			return err
		}
	}
	meta, err := loadMeta(c)
	if err != nil {
		return err
	}
	if meta.UIDValidity == uidValidity && meta.ClassifiedTo >= change.ClassifiedTo {
		return nil
	}
	return storeJSON(c, metaKey, indexMeta{UIDValidity: uidValidity, ClassifiedTo: change.ClassifiedTo})
}

func updateSegment(c *cloudmls.Cache, key string, change imapd.IndexChange) error {
	value, err := c.Get(key)
	if err != nil {
		return fmt.Errorf("update the index: %w", err)
	}
	var state imapd.IndexState
	if value != nil {
		if state.Sealed, err = parseSegment(value); err != nil {
			return err
		}
	}
	before := maps.Clone(state.Sealed)
	state.Merge(change)
	if value != nil && sameEntries(before, state.Sealed) {
		return nil
	}
	return storeJSON(c, key, state.Sealed)
}

func sameEntries(a, b map[uint32]imapd.IndexEntry) bool {
	return maps.EqualFunc(a, b, func(x, y imapd.IndexEntry) bool {
		kx, ky := strings.Join(x.Keywords, " "), strings.Join(y.Keywords, " ")
		return kx == ky && x.Layout == y.Layout && x.Opened == y.Opened && x.Ref == y.Ref &&
			x.StubKey == y.StubKey && x.Temporary == y.Temporary && x.Broken == y.Broken
	})
}

func segmentPrefix(uidValidity uint32) string {
	return strconv.FormatUint(uint64(uidValidity), 10) + "/"
}

func parseSegment(value []byte) (map[uint32]imapd.IndexEntry, error) {
	entries := make(map[uint32]imapd.IndexEntry)
	if err := json.Unmarshal(value, &entries); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	return entries, nil
}

func loadMeta(c *cloudmls.Cache) (indexMeta, error) {
	var meta indexMeta
	value, err := c.Get(metaKey)
	if err != nil {
		return meta, fmt.Errorf("read the index: %w", err)
	}
	if value != nil {
		if err := json.Unmarshal(value, &meta); err != nil {
			return meta, fmt.Errorf("read the index: %w", err)
		}
	}
	return meta, nil
}

func storeJSON(c *cloudmls.Cache, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("store the index: %w", err)
	}
	if err := c.Put(key, b); err != nil {
		return fmt.Errorf("store the index: %w", err)
	}
	return nil
}
