package keyserver

import "github.com/cloudmls/gateway/keyserver/keyapi"

// An inbox has three parts. A quarter is for floors: what each sender may have
// waiting whatever the others do. An eighth is for the inbox's own user, whose
// own Commits lie there too. The rest is shared: of what others have left of it,
// one sender takes at most a fourth.
//
// So nobody shuts others out but by being as many users as there are floors in a
// quarter: 128, with the default limits. How fast somebody becomes that many is
// for Limits.Registrations, invitations and proofs of accounts to say; what the
// owner reads and acknowledges counts no longer, and the own eighth stays.
const (
	ownPart   = 8   // 1/8 of an inbox is its own user's alone
	floorPart = 4   // 1/4 is for floors
	floorSize = 512 // a floor is 1/512 of the inbox, and at least:
	fairShare = 4

	leastMessages = 4
	leastOctets   = 64 << 10
)

// room is what an inbox has of one sort, messages or octets, altogether and for
// one sender.
type room struct{ all, from, least int64 }

func (s *Server) rooms() (messages, octets room) {
	l := &s.Limits
	return room{int64(l.Inbox), int64(l.InboxFrom), leastMessages}, room{l.InboxBytes, l.InboxBytesFrom, leastOctets}
}

// floor is what each sender may have waiting, as long as fewer senders than
// all/floorPart/floor have made use of theirs: sharing ends at shared, and from
// there on each of these adds no more than one floor.
func (r room) floor() int64 {
	return min(max(r.all/floorSize, min(r.least, r.all/floorPart)), r.from)
}

func (r room) shared() int64 { return r.all - r.all/ownPart - r.all/floorPart }

type roomVerdict int

const (
	thereIsRoom roomVerdict = iota
	inboxFull
	senderFull
)

// has tells whether more fits where total waits, own of it from the same sender.
// owner: the sender is the inbox's own user.
func (r room) has(total, own, more int64, owner bool) roomVerdict {
	limit := r.all
	if !owner {
		if own+more > max(r.floor(), min(r.from, (r.shared()-(total-own))/fairShare)) {
			return senderFull
		}
		limit -= r.all / ownPart
	}
	if total+more > limit {
		return inboxFull
	}
	return thereIsRoom
}

// fits tells whether one more message of this size may wait in an inbox.
func (s *Server) fits(use *InboxUsage, owner bool, size int64, a keyapi.Account) error {
	messages, octets := s.rooms()
	verdict := messages.has(int64(use.Messages), int64(use.MessagesFrom), 1, owner)
	if verdict == thereIsRoom {
		verdict = octets.has(use.Bytes, use.BytesFrom, size, owner)
	}
	switch verdict {
	case inboxFull:
		return quota("the inbox of " + a.String() + " is full")
	case senderFull:
		return quota("too much of yours waits in the inbox of " + a.String())
	}
	return nil
}
