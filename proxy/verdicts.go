package proxy

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// verdict is what was found when a sealed message was opened for the first
// time. It is stored before anything is served and never changes, so that what
// a mail client saw of a UID stays the same for ever.
type verdict struct {
	Version  int       `json:"v"`
	Status   string    `json:"status"` // value of the status field
	Keywords []string  `json:"keywords"`
	Findings []finding `json:"findings,omitempty"`
	// Conversation and Kind of the message; zero for personal ones.
	Conversation groupid.ID `json:"conversation,omitzero"`
}

// verdicts stores them by ref, sealed in the local cache. The same ref under
// an altered outer From field has a verdict of its own.
type verdicts struct {
	cache *cloudmls.Cache
}

// verdictKey tells copies of one message with the same outcome of the outer
// check from each other.
func verdictKey(ref string, outer outerCheck) string {
	if outer == outerAltered {
		return ref + ":altered"
	}
	return ref
}

func (v *verdicts) get(key string) (*verdict, error) {
	b, err := v.cache.Get(key)
	if err != nil {
		return nil, fmt.Errorf("look up a verdict: %w", err)
	}
	if b == nil {
		return nil, nil
	}
	var out verdict
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("look up a verdict: %w", err)
	}
	if out.Version != 1 {
		return nil, errors.New("look up a verdict: written by a newer version")
	}
	return &out, nil
}

// put stores a verdict; it is durable after Settle.
func (v *verdicts) put(key string, ver *verdict) error {
	ver.Version = 1
	b, err := json.Marshal(ver)
	if err != nil {
		return fmt.Errorf("store a verdict: %w", err)
	}
	if err := v.cache.Defer(key, b); err != nil {
		return fmt.Errorf("store a verdict: %w", err)
	}
	return nil
}
