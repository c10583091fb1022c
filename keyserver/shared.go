package keyserver

import (
	"crypto/sha256"
	"errors"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrUnavailable is matched by errors of a Store that cannot be asked now, or
// that was cut off before it said whether a transaction was carried out. The
// client is told "unavailable" and nothing else.
var ErrUnavailable = errors.New("store is unavailable")

// Topic names something that long-polls wait for; it gives no id away.
type Topic [16]byte

// AccountTopic is that of deliveries to an account.
func AccountTopic(a keyapi.Account) Topic {
	return topic("account\x00" + a.Platform + "\x00" + a.ID) // platforms have no NUL
}

// SessionTopic is that of a session's end.
func SessionTopic(id SessionID) Topic { return topic("session\x00" + string(id[:])) }

func topic(s string) Topic {
	h := sha256.Sum256([]byte(s))
	return Topic(h[:16])
}

// Shared is implemented by a Store that other server processes use as well.
type Shared interface {
	// Subscribe has the subscriber told what other processes changed, until
	// stop is called. Telling it too often or too late is allowed, never is not.
	Subscribe(Subscriber) (stop func())
}

// Subscriber is a server with long-polls. Its methods do not block.
type Subscriber interface {
	Wake([]Topic)
	WakeAll()
	// WaitingFor lists the accounts that are waited for.
	WaitingFor() []keyapi.Account
}
