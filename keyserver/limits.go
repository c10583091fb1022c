package keyserver

import "time"

// Rate is a token bucket: Burst at once, then one more per Every. A zero Rate
// means the default, a negative Burst no limit.
type Rate struct {
	Burst int
	Every time.Duration
}

// Limits bound what users may store and how often they may ask. Zero fields
// mean the defaults of DefaultLimits.
type Limits struct {
	Objects     int   // sealed objects of one user
	ObjectBytes int64 // and their octets
	Accounts    int   // of one user
	Sessions    int   // of one user; a further login ends the one unused for longest
	KeyPackages int   // in one account's pool

	Inbox          int   // messages that wait for one account
	InboxBytes     int64 // and their octets
	InboxFrom      int   // of these, from one user
	InboxBytesFrom int64
	// AnswerBytes bounds the octets of objects or messages in one answer. The
	// first one is always sent, however long.
	AnswerBytes     int
	LongPolls       int           // waiting at once, of one user
	LongPollsFrom   int           // and of one network prefix; negative: no limit
	RefreshLifetime time.Duration // of a refresh token that is not used

	// Connections that Listener has open at once, and those of one network prefix
	// (IPv4 /24, IPv6 /64); trusted proxies count for Connections only. Negative:
	// no limit.
	Connections     int
	ConnectionsFrom int

	SignIn Rate // params, register, login: per network prefix (IPv4 /24, IPv6 /64)
	// Registrations are per network prefix too. They tell which names are taken
	// and make users, so they are fewer.
	Registrations Rate
	Refresh       Rate // per network prefix
	Claims        Rate // KeyPackages, per user and account asked for
	LookUps       Rate // reachable, conversations, claims of KeyPackages and accounts: per user
	Commits       Rate // per user
	Writes        Rate // transactions and uploads of KeyPackages, per user
	Challenges    Rate // per account that is to be proven: Burst within Burst×Every, kept in the store
	// ChallengesFrom is per network prefix and per user, so that the server is
	// no cannon for mails.
	ChallengesFrom Rate
}

// DefaultLimits suit a server for some thousand people.
func DefaultLimits() Limits {
	return Limits{
		Objects:         20_000,
		ObjectBytes:     1 << 30,
		Accounts:        64,
		Sessions:        64,
		KeyPackages:     200,
		Inbox:           10_000,
		InboxBytes:      256 << 20,
		InboxFrom:       2_000,
		InboxBytesFrom:  64 << 20,
		AnswerBytes:     32 << 20,
		LongPolls:       64,
		LongPollsFrom:   1_000,
		Connections:     20_000,
		ConnectionsFrom: 1_000,
		RefreshLifetime: 365 * 24 * time.Hour,
		SignIn:          Rate{Burst: 60, Every: 2 * time.Second},
		Registrations:   Rate{Burst: 60, Every: time.Minute},
		Refresh:         Rate{Burst: 240, Every: 500 * time.Millisecond},
		Claims:          Rate{Burst: 20, Every: 6 * time.Minute},
		LookUps:         Rate{Burst: 1000, Every: time.Second},
		Commits:         Rate{Burst: 600, Every: 2 * time.Second},
		Writes:          Rate{Burst: 5000, Every: 100 * time.Millisecond},
		Challenges:      Rate{Burst: 3, Every: 8 * time.Hour},
		ChallengesFrom:  Rate{Burst: 20, Every: time.Hour},
	}
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// withDefaults fills the zero fields.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	orDefault(&l.Objects, d.Objects)
	orDefault(&l.ObjectBytes, d.ObjectBytes)
	orDefault(&l.Accounts, d.Accounts)
	orDefault(&l.Sessions, d.Sessions)
	orDefault(&l.KeyPackages, d.KeyPackages)
	orDefault(&l.Inbox, d.Inbox)
	orDefault(&l.InboxBytes, d.InboxBytes)
	orDefault(&l.InboxFrom, d.InboxFrom)
	orDefault(&l.InboxBytesFrom, d.InboxBytesFrom)
	orDefault(&l.AnswerBytes, d.AnswerBytes)
	orDefault(&l.LongPolls, d.LongPolls)
	orDefault(&l.LongPollsFrom, d.LongPollsFrom)
	orDefault(&l.Connections, d.Connections)
	orDefault(&l.ConnectionsFrom, d.ConnectionsFrom)
	orDefault(&l.RefreshLifetime, d.RefreshLifetime)
	orDefault(&l.SignIn, d.SignIn)
	orDefault(&l.Registrations, d.Registrations)
	orDefault(&l.Refresh, d.Refresh)
	orDefault(&l.Claims, d.Claims)
	orDefault(&l.LookUps, d.LookUps)
	orDefault(&l.Commits, d.Commits)
	orDefault(&l.Writes, d.Writes)
	orDefault(&l.Challenges, d.Challenges)
	orDefault(&l.ChallengesFrom, d.ChallengesFrom)
	return l
}
