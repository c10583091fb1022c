//go:build crashpoints && weakkdf

package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// membership is what is known of somebody in a conversation.
type membership int

const (
	out   membership = iota
	maybe            // something that was cut off may have changed it
	in
)

func (m membership) String() string { return [...]string{"out", "maybe", "in"}[m] }

// talk is what the model knows of a conversation, from the answers that people
// got alone.
type talk struct {
	id      cloudmls.ConversationID
	kind    cloudmls.Kind
	days    uint32 // for how long its messages can be read; 0: for ever
	members map[cloudmls.Account]membership
	// left are those who have ever left by themselves: the others may go on
	// writing to them for a while, and they do not follow.
	left map[cloudmls.Account]bool
	// shut are those who refuse to be let in again by people unknown to them.
	shut map[cloudmls.Account]bool
	// away are those who have ever been out of it, or may have been.
	away map[cloudmls.Account]bool
	// replaced: another group was to take the place of the one that serves it.
	replaced bool
	// parted: somebody has left, or was to be removed, or the group to be replaced.
	parted bool
}

// message is something that was said.
type message struct {
	n       int
	text    string
	sealed  []byte
	id      cloudmls.ConversationID
	from    cloudmls.Account
	members []cloudmls.Account // who may read it, as the sender's own copy says
	epoch   uint64
	at      time.Time // by the key server's clock
	// old: it may be signed by an identity key that was replaced, for the leaf could
	// not be renewed before it was sent. To whoever has entered the group since, such
	// a key says nothing.
	old bool
	// stolen are those in whose place the thief reads it, of whom its sender knew nothing.
	stolen []cloudmls.Account
	// forked: its sender was shown another world than the true one.
	forked bool
}

// due tells whether the message may be deleted.
func (m *message) due(w *world) bool {
	days := w.talks[m.id].days
	return days != 0 && !w.now.Before(m.at.Add(time.Duration(days)*day))
}

func (m *message) mayRead(a cloudmls.Account) bool { return slices.Contains(m.members, a) }

func (m *message) String() string { return fmt.Sprintf("message %d (epoch %d)", m.n, m.epoch) }

// groupID gives the id of group number n of a run.
func groupID(n int) cloudmls.ConversationID {
	id := cloudmls.ConversationID{15: byte(n + 1)}
	copy(id[:], "group")
	return id
}

func (w *world) talk(id cloudmls.ConversationID, kind cloudmls.Kind) *talk {
	t := w.talks[id]
	if t == nil {
		t = &talk{
			id: id, kind: kind, members: map[cloudmls.Account]membership{},
			left: map[cloudmls.Account]bool{}, shut: map[cloudmls.Account]bool{}, away: map[cloudmls.Account]bool{},
		}
		if id == groupID(brief) {
			t.days = briefDays
		}
		w.talks[id] = t
	}
	return t
}

func dialogID(a, b cloudmls.Account) cloudmls.ConversationID {
	return groupid.Dialog(a.Platform, a.ID, b.ID)
}

// insiders are the users who are in the conversation, or may be.
func (w *world) insiders(t *talk) []*user {
	var list []*user
	for _, u := range w.users {
		if t.members[u.self] != out {
			list = append(list, u)
		}
	}
	return list
}

// blur notes that something that failed may have happened all the same.
func (t *talk) blur(accounts []cloudmls.Account, to membership) {
	for _, a := range accounts {
		if t.members[a] != to {
			t.members[a] = maybe
		}
		t.away[a] = t.away[a] || to == out
	}
}

// sure notes that somebody is in the conversation. Of one who left once, and may
// be on the way out, it is not certain.
func (t *talk) sure(a cloudmls.Account) {
	t.members[a] = in
	if t.left[a] {
		t.members[a] = maybe
	}
}

// learn takes what a device that is up to date says of those of whom nothing
// certain is known.
func (t *talk) learn(s *cloudmls.ConversationState) {
	for a, m := range t.members {
		if m != maybe || t.left[a] {
			continue
		}
		t.members[a] = out
		if slices.Contains(s.Members, a) {
			t.members[a] = in
		}
	}
}
