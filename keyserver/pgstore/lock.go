package pgstore

import (
	"hash/fnv"
	"slices"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What a transaction locks before it reads. Everything stored belongs to one of
// these; that two of them may share a row of table locks costs a wait now and
// then. Locks are held until the end of the transaction.
type lockName string

func lockUser(u keyserver.UserID) lockName           { return lockName("u" + string(u[:])) } // sessions, objects, usage, results, list of accounts
func lockUserName(name string) lockName              { return lockName("n" + name) }
func lockAccount(a keyapi.Account) lockName          { return lockName("a" + string(accountKey(a))) } // KeyPackages, inbox
func lockGroup(group []byte) lockName                { return lockName("g" + string(group)) }
func lockChallenge(c keyserver.ChallengeID) lockName { return lockName("h" + string(c[:])) }

func lockConversation(kind keyapi.Kind, id keyserver.ConversationID) lockName {
	return lockName("c" + string(rune(kind)) + string(id[:]))
}

// lockNotes is the lock of a user for notes that belong to one.
func lockNotes(kind keyserver.NoteKind, owner []byte) lockName {
	if len(owner) == len(keyserver.UserID{}) {
		return lockUser(keyserver.UserID(owner))
	}
	return lockName("o" + string(rune(kind)) + string(owner))
}

const lockMark lockName = "m"

// stripe is the row of a name. It must be the same in all processes.
func (n lockName) stripe() int32 {
	h := fnv.New32a()
	h.Write([]byte(n)) // never fails
	sum := h.Sum32()
	return int32((sum ^ sum>>16) & 0xffff)
}

// locks gives the statement that locks what is not locked yet, in the order of
// the rows: two transactions that say all at once what they need never wait for
// each other. Views lock nothing.
func (t *tx) locks(names ...lockName) []read {
	if !t.writing {
		return nil
	}
	var rows []int32
	for _, n := range names {
		if row := n.stripe(); !t.held[row] {
			t.held[row] = true
			rows = append(rows, row)
		}
	}
	if rows == nil {
		return nil
	}
	slices.Sort(rows)
	return []read{{sql: "SELECT n FROM locks WHERE n = ANY($1) ORDER BY n FOR UPDATE", args: []any{rows}, want: len(rows)}}
}
