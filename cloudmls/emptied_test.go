package cloudmls

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestSiblingHasLeftTheGroup: a device that has not looked yet since another one of
// the user's put a group in the place of this one, or since somebody else did, finds
// the sender object empty. That says that the conversation moved on, not that the
// epoch is used up or the state damaged.
func TestSiblingHasLeftTheGroup(t *testing.T) {
	t.Parallel()
	_, alice, bob, id := newPair(t)
	phone := alice.sibling()
	phone.cleanSync()
	conv := phone.conversationRecord(id)
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	ctx, self := t.Context(), phone.self
	for what, do := range map[string]func() error{
		"the group":              func() error { _, _, err := phone.reader(ctx, self).group(conv.Group, conv.Epoch); return err },
		"a handshake generation": func() error { _, err := phone.reserveHandshake(ctx, self, conv); return err },
		"generations":            func() error { _, err := phone.reserveBlock(ctx, self, conv); return err },
		"a Commit":               func() error { _, err := phone.commitOnce(ctx, self, conv, &change{renew: true}); return err },
	} {
		var moved *movedError
		if err := do(); !errors.As(err, &moved) {
			t.Errorf("%s: %v", what, err)
		}
	}
	bob.cleanSync()
	bob.reads(phone.encrypt(id, "in the new one"), "in the new one", alice)
}

// TestSiblingLeavesTheGroupMeanwhile: the sender object was read, and the group's state
// when another device had done away with it.
func TestSiblingLeavesTheGroupMeanwhile(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Replace", "Remove", "read"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			w, alice, bob, carol, id := newTrio(t)
			phone := alice.sibling()
			phone.cleanSync()
			raced := false
			w.wire.set(nil, func(e *exchange) {
				if raced || !readsSender(t, e) {
					return
				}
				raced = true
				if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
					t.Error(err)
				}
				if _, err := phone.Client.store.Refresh(t.Context()); err != nil {
					t.Error(err)
				}
			})
			var err error
			switch call {
			case "Replace":
				_, err = phone.Replace(t.Context(), phone.self, id)
			case "Remove":
				err = phone.Remove(t.Context(), phone.self, id, accounts(carol))
			case "read":
				conv := phone.conversationRecord(id)
				var moved *movedError
				if _, _, err = phone.reader(t.Context(), phone.self).group(conv.Group, conv.Epoch); errors.As(err, &moved) {
					err = nil
				}
			}
			w.wire.set(nil, nil)
			if err != nil || !raced {
				t.Fatalf("raced %v: %v", raced, err)
			}
			bob.cleanSync()
			bob.reads(phone.encrypt(id, "on we go"), "on we go", alice)
		})
	}
}

// readsSender tells whether a request is for a sender object, which is read before the
// group's state is.
func readsSender(t *testing.T, e *exchange) bool {
	t.Helper()
	if !e.is("POST", "/v1/objects") {
		return false
	}
	ids := decodeJSON[keyapi.ObjectsRequest](t, e.sent).IDs
	return len(ids) == 1 && state.Type(ids[0][0]) == state.TypeSender
}

// TestReplaceWhileItBreaks: the server refused because the group took a turn that this
// account cannot follow. That is what the user hears.
func TestReplaceWhileItBreaks(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, id := newTrio(t)
	raced := false
	w.wire.set(func(e *exchange) bool {
		if raced || !e.is("POST", "/v1/tx") || decodeJSON[keyapi.Tx](t, e.sent).Commit == nil {
			return false
		}
		raced = true
		bob.splitCommit(id)
		return false
	}, nil)
	_, err := carol.Replace(t.Context(), carol.self, id)
	if !raced || !errors.Is(err, ErrBroken) {
		t.Errorf("raced %v: %v", raced, err)
	}
}

// TestClosedMeanwhile: whatever runs when a Client is closed, or its device signed out,
// ends with one error.
func TestClosedMeanwhile(t *testing.T) {
	t.Parallel()
	w, alice, _, id := newPair(t)
	closed := false
	w.wire.set(func(e *exchange) bool {
		if !closed {
			closed = true
			alice.Close()
		}
		return false
	}, nil)
	if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("text"), nil); !errors.Is(err, ErrClosed) || !closed {
		t.Errorf("closed %v: %v", closed, err)
	}
	w.wire.set(nil, nil)
	if err := alice.Cache("x").Put("k", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("cache: %v", err)
	}
	if _, err := alice.Cache("x").Get("k"); !errors.Is(err, ErrClosed) {
		t.Errorf("cache: %v", err)
	}
}
