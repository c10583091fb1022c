package cloudmls

import (
	"bytes"
	"testing"
)

// TestThreat44_QuestionsOfAReader: a message is a question about its own key only where
// a rotation of the pinned one is known; what was asked already is not asked again
// because somebody shows other keys, and nothing but the state says what is pinned.
func TestThreat44_QuestionsOfAReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob") // he has not met her
	first, second, third := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 32)
	bob.mustSync()
	for _, c := range []struct {
		what      string
		pin       pinEntry
		key       []byte
		asked     bool // about the pin as it is
		questions int
	}{
		{"shown, never asked", pinEntry{Key: first, Unconfirmed: true}, first, false, 1},
		{"shown, and asked", pinEntry{Key: first, Unconfirmed: true}, first, true, 0},
		{"shown, and asked; a message under another key", pinEntry{Key: first, Unconfirmed: true}, third, true, 0},
		{"shown with a rotation, and asked", pinEntry{Key: first, Next: second, Unconfirmed: true}, third, true, 0},
		{"rotating, and asked", pinEntry{Key: first, Next: second}, second, true, 0},
		{"rotating, and asked; a message under the pinned key", pinEntry{Key: first, Next: second}, first, true, 0},
		{"rotating, and asked; a message under a third key", pinEntry{Key: first, Next: second}, third, true, 1},
		{"settled", pinEntry{Key: first}, third, false, 0},
	} {
		bob.asked.keys, bob.asked.turns = nil, nil
		c.pin.Platform, c.pin.ID = alice.self.Platform, alice.self.ID
		contacts := &contactsRecord{Pins: []pinEntry{c.pin}}
		if c.asked {
			bob.asked.note(bob.self, &contacts.Pins[0], w.clock.now())
		}
		for n, want := range []int{c.questions, 0} {
			w.wire.reset()
			if err := bob.confirmSender(t.Context(), bob.self, alice.self, c.key, contacts); err != nil {
				t.Fatal(err)
			}
			if got := w.wire.count("GET", "/v1/reachable/"); got != want {
				t.Errorf("%s: %d questions at look %d, want %d", c.what, got, n, want)
			}
		}
		if p := contacts.Pins[0]; !bytes.Equal(p.Next, c.pin.Next) || !bytes.Equal(p.Key, c.pin.Key) || p.Unconfirmed != c.pin.Unconfirmed {
			t.Errorf("%s: what was read has become %+v", c.what, p)
		}
	}
	contacts, err := bob.reader(t.Context(), bob.self).contacts()
	if err != nil || contacts.find(alice.self) != nil {
		t.Errorf("an answer about somebody who is not pinned has pinned them: %v", err)
	}
}
