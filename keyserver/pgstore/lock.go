package pgstore

import (
	"hash/fnv"
	"strings"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What a transaction locks before it reads. Everything stored belongs to one of
// these; that two of them may share a row of table locks costs a wait now and
// then. Locks are held until the end of the transaction.
type lockName string

func lockUser(u keyserver.UserID) lockName           { return lockName("u" + string(u[:])) } // sessions, objects, usage, results, records and list of accounts
func lockUserName(name string) lockName              { return lockName("n" + name) }
func lockGroup(group []byte) lockName                { return lockName("g" + string(group)) }
func lockChallenge(c keyserver.ChallengeID) lockName { return lockName("h" + string(c[:])) }

// lockAccount is the lock of KeyPackages and inbox. Pools of further cipher suites
// have the account's platform and more behind a "/"; they share its lock.
func lockAccount(a keyapi.Account) lockName {
	a.Platform, _, _ = strings.Cut(a.Platform, "/")
	return lockName("a" + string(accountKey(a)))
}

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

// locks gives the rows that are not locked yet. Views lock nothing.
func (t *tx) locks(names ...lockName) (rows []int32) {
	if !t.writing {
		return nil
	}
	for _, n := range names {
		if row := n.stripe(); !t.held[row] {
			set(&t.held, row, true)
			rows = append(rows, row)
		}
	}
	return rows
}

func (t *tx) holds(n lockName) bool { return t.held[n.stripe()] }
