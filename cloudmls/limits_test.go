package cloudmls

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestLimitsOfContacts: others cannot fill the contacts up with keys that they
// show in their groups, and nobody's former keys grow without end.
func TestLimitsOfContacts(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	member := func(i int) memberEntry {
		return memberEntry{Platform: PlatformEmail, ID: fmt.Sprintf("m%d@example.org", i), IdentityKey: []byte{byte(i), byte(i >> 8)}}
	}
	r := &contactsRecord{}
	for i := range maxUnconfirmed {
		r.Pins = append(r.Pins, pinEntry{Platform: PlatformEmail, ID: member(i).ID, Unconfirmed: true})
	}
	if r.note(member(maxUnconfirmed), false, now) || len(r.Pins) != maxUnconfirmed {
		t.Error("one unconfirmed pin too many")
	}
	if !r.note(member(maxUnconfirmed), true, now) || r.find(member(maxUnconfirmed).account()) == nil {
		t.Error("whom the key server named is kept out by those whom others showed")
	}
	for i := len(r.Pins); i < maxPins; i++ {
		r.Pins = append(r.Pins, pinEntry{Platform: PlatformEmail, ID: member(i).ID})
	}
	if r.note(member(maxPins), true, now) || len(r.Pins) != maxPins {
		t.Error("one pin too many")
	}
	for name, change := range map[string]func(*pinEntry, []byte){
		"accepted": func(p *pinEntry, key []byte) { p.accept(key, now) },
		"rotated":  func(p *pinEntry, key []byte) { p.rotate(key, nil, now) },
	} {
		p := &pinEntry{Key: []byte{0}}
		for i := range 2 * maxFormer {
			change(p, []byte{byte(i + 1)})
		}
		if n := len(p.Former); n != maxFormer || p.Former[n-1].Key[0] != 2*maxFormer-1 || p.Key[0] != 2*maxFormer {
			t.Errorf("%s: %d former keys, the last %v", name, n, p.Former[n-1])
		}
	}
}

// TestLimitsOfWhatIsRemembered in the state of an account and by a Client.
func TestLimitsOfWhatIsRemembered(t *testing.T) {
	t.Parallel()
	inbox := &inboxRecord{}
	for i := range maxTodo {
		inbox.Todo = append(inbox.Todo, ConversationID{1, byte(i), byte(i >> 8)})
	}
	inbox.remember([]ConversationID{{2}, {1, 7}})
	if len(inbox.Todo) != maxTodo {
		t.Errorf("%d conversations to mend", len(inbox.Todo))
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &Client{named: map[string]naming{}, o: Options{Now: func() time.Time { return now }}}
	var last *pinEntry
	for i := range maxNamed + 1 {
		last = &pinEntry{Platform: PlatformEmail, ID: fmt.Sprintf("m%d@example.org", i), Key: []byte{1}, Unconfirmed: true}
		c.noteNamed(account("self"), last.account(), keyapi.Reachability{Account: last.account(), HasAccount: true, IdentityKey: last.Key})
	}
	if len(c.named) > maxNamed || !c.namedLately(account("self"), last, time.Minute) {
		t.Errorf("%d answers are remembered; the last one: %v", len(c.named), c.namedLately(account("self"), last, time.Minute))
	}
	for i := range maxAsked + 1 {
		last = &pinEntry{Platform: PlatformEmail, ID: fmt.Sprintf("m%d@example.org", i), Key: []byte{1}, Unconfirmed: true}
		c.asked.note(account("self"), last, now)
	}
	if len(c.asked.keys) > maxAsked || len(c.asked.due(account("self"), []*pinEntry{last}, now)) != 0 {
		t.Errorf("%d questions are remembered", len(c.asked.keys))
	}
}
