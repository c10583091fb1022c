package thunderbird

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// ordering: flags, a folder with a name beyond ASCII, moving and deleting. The
// UIDs that Thunderbird has are the provider's.
func (w *world) ordering(t *testing.T) {
	from := submit(t, w.erin, stack.Erin)
	moved := letter{id: "<order-moved@b.test>", from: stack.Erin, to: stack.Alice, subject: "Move " + w.secret(), text: "me"}
	deleted := letter{id: "<order-deleted@b.test>", from: stack.Erin, to: stack.Alice, subject: "Delete " + w.secret(), text: "me"}
	for _, l := range []letter{moved, deleted} {
		from.send(t, l.bytes(), stack.Alice)
		w.delivered(t, stack.Alice, l.id)
	}

	mark := func(a args) []string {
		t.Helper()
		a["account"], a["id"] = stack.Alice, bare(moved.id)
		call[any](t, w.tb, "mark_", a)
		w.tb.list(t, stack.Alice, "inbox") // after this round trip the provider has it
		_, _, flags := stored(t, stack.Alice, "INBOX", moved.id)
		return strings.Fields(strings.Trim(flags, "()"))
	}
	if flags := mark(args{"read": true, "flagged": true}); !slices.Contains(flags, `"\\Seen"`) || !slices.Contains(flags, `"\\Flagged"`) {
		t.Errorf("read and flagged: the provider has %s", flags)
	}
	if flags := mark(args{"read": false}); slices.Contains(flags, `"\\Seen"`) || !slices.Contains(flags, `"\\Flagged"`) {
		t.Errorf("unread again: the provider has %s", flags)
	}

	const name, onWire = "Häuser & Gärten", "H&AOQ-user &- G&AOQ-rten"
	call[any](t, w.tb, "createFolder", args{"account": stack.Alice, "folder": name})
	type uids struct{ UIDs []int }
	where := call[uids](t, w.tb, "move", args{"account": stack.Alice, "id": bare(moved.id), "to": name})
	uid, _, flags := stored(t, stack.Alice, onWire, moved.id)
	if !slices.Equal(where.UIDs, []int{uid}) {
		t.Errorf("the moved message has UID %v in Thunderbird, %d at the provider", where.UIDs, uid)
	}
	if !strings.Contains(flags, "Flagged") {
		t.Errorf("the moved message lost its flag: %s", flags)
	}
	if got := w.tb.read(t, stack.Alice, name, moved.id); got.Subject != moved.subject || strings.TrimSpace(got.Body) != moved.text {
		t.Errorf("the moved message reads %q: %q", got.Subject, got.Body)
	}
	sealed(t, stack.Alice, onWire, moved.id, moved.subject)

	where = call[uids](t, w.tb, "delete", args{"account": stack.Alice, "id": bare(deleted.id)})
	if uid, _, _ := stored(t, stack.Alice, "Trash", deleted.id); !slices.Equal(where.UIDs, []int{uid}) {
		t.Errorf("the deleted message has UID %v in Thunderbird, %d at the provider", where.UIDs, uid)
	}
	sealed(t, stack.Alice, "Trash", deleted.id, deleted.subject)
	for _, m := range w.tb.list(t, stack.Alice, "inbox") {
		if m.MessageID == bare(moved.id) || m.MessageID == bare(deleted.id) {
			t.Errorf("%s is still in the inbox", m.MessageID)
		}
	}
}

// searching on the server: the provider answers. Plain mail is found by its
// words; encrypted mail by what shows outside.
func (w *world) searching(t *testing.T) {
	plain := letter{id: "<search-plain@b.test>", from: "Zita <zita@b.test>", to: stack.Alice, subject: "Quittung größer", text: "the word is pineapple"}
	direct := lab.Direct(t, stack.Alice)
	direct.Append("INBOX", "()", plain.bytes())
	sealed := letter{id: "<search-sealed@b.test>", from: stack.Frank, to: stack.Alice, subject: "Search " + w.secret(), text: "the word is " + w.secret()}
	submit(t, w.erin, stack.Frank).send(t, sealed.bytes(), stack.Alice)
	w.alice.Mail(stack.Alice).Arrives("INBOX", sealed.id)
	w.tb.find(t, stack.Alice, "inbox", plain.id)
	w.tb.find(t, stack.Alice, "inbox", sealed.id)

	for _, c := range []struct {
		criteria args
		want     string
	}{
		{args{"body": "pineapple"}, plain.id},
		{args{"subject": "Quittung"}, plain.id},
		{args{"subject": "größer"}, plain.id}, // a literal in UTF-8
		{args{"from": "zita@b.test"}, plain.id},
		{args{"from": stack.Frank}, sealed.id},
		{args{"body": "nowhere-at-all"}, ""},
	} {
		var got []string
		c.criteria["account"] = stack.Alice
		for _, m := range call[[]message](t, w.tb, "search", c.criteria) {
			got = append(got, m.MessageID)
		}
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.Contains(got, bare(c.want)) {
			t.Errorf("search for %v found %v, want %q", c.criteria, got, c.want)
		}
		if c.want == plain.id && len(got) != 1 {
			t.Errorf("search for %v found %v beside what was looked for", c.criteria, got)
		}
	}
}
