package cloudmls

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestReplaceNamesARefusal: where the delivery server does not take another group,
// and nothing moved meanwhile, the user hears that and no word of a race; trying
// again would be refused as well.
func TestReplaceNamesARefusal(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"group", "dialog"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			var id ConversationID
			if kind == "group" {
				id = alice.ensureGroup(newID(t), bob).ID
			} else {
				s, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindDialog, Members: []Account{bob.self}})
				if err != nil {
					t.Fatal(err)
				}
				id = s.ID
			}
			before, tried := alice.conversationRecord(id), 0
			w.wire.set(func(e *exchange) bool {
				if !e.is("POST", "/v1/tx") || decodeJSON[keyapi.Tx](t, e.sent).Commit == nil {
					return false
				}
				tried++
				e.refuse(t, &keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden, Detail: "not here"})
				return true
			}, nil)
			if _, err := alice.Replace(t.Context(), alice.self, id); !isCode(err, keyapi.CodeForbidden) || errors.Is(err, ErrBusy) || tried != 1 {
				t.Errorf("tried %d times: %v", tried, err)
			}
			if now := alice.conversationRecord(id); now.Epoch != before.Epoch || string(now.Group) != string(before.Group) || now.blocked() != nil {
				t.Errorf("%+v", now)
			}
			w.wire.set(nil, nil)
			bob.cleanSync()
			bob.reads(alice.encrypt(id, "all the same"), "all the same", alice)
		})
	}
}

// TestReplaceAfterAFasterCommit: the token is that of an epoch which is over. That is
// refused in the same words, and the next attempt shows the present one.
func TestReplaceAfterAFasterCommit(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	raced := false
	w.wire.set(func(e *exchange) bool {
		if raced || !e.is("POST", "/v1/tx") || decodeJSON[keyapi.Tx](t, e.sent).Commit == nil {
			return false
		}
		raced = true
		bob.renewKeys(id)
		return false
	}, nil)
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil || !raced {
		t.Fatalf("raced %v: %v", raced, err)
	}
	w.wire.set(nil, nil)
	for _, d := range []*device{bob, carol} {
		d.cleanSync()
		d.reads(alice.encrypt(id, "here"), "here", alice)
	}
}

// TestReplaceWhereAnotherGroupServes: somebody else put a group in the place of this
// one without this account in it, or its Welcome never comes. The conversation is
// broken then, so that the others are asked, as for every other change.
func TestReplaceWhereAnotherGroupServes(t *testing.T) {
	t.Parallel()
	w, alice, _, _, id := newTrio(t)
	tried := 0
	w.wire.set(func(e *exchange) bool {
		if !e.is("POST", "/v1/tx") || decodeJSON[keyapi.Tx](t, e.sent).Commit == nil || len(decodeJSON[keyapi.Tx](t, e.sent).Commit.Notice) > 0 {
			return false
		}
		tried++
		e.refuse(t, &keyapi.Problem{Status: 409, Code: keyapi.CodeInstanceConflict, Instance: &keyapi.Instance{Kind: KindGroup, Group: []byte("another group"), Epoch: 1}})
		return true
	}, nil)
	if _, err := alice.Replace(t.Context(), alice.self, id); !errors.Is(err, ErrBroken) || tried != 1 {
		t.Errorf("tried %d times: %v", tried, err)
	}
}
