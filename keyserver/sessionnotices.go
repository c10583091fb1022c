package keyserver

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What the server sees happen to a user's sessions, and no device does, it tells
// the devices in the answers that give them tokens: each of them fetches one every
// few minutes, wherever the user's accounts and objects are. It is in clear, for
// the server says it and nobody else could. So a server that lies can frighten
// people with it, or keep quiet, and nothing is decided by it.

const (
	// maxSessionNotices are kept of one user, for noticeLifetime: long enough for a
	// device that comes back from a holiday.
	maxSessionNotices = 16
	noticeLifetime    = 30 * 24 * time.Hour
)

// noticesOf are those of a user that are kept still, oldest first.
func noticesOf(r Reader, u UserID, now time.Time) ([]keyapi.SessionNotice, error) {
	n, err := r.Note(NoteSessions, u[:], nil, now)
	if err != nil || n == nil {
		return nil, err
	}
	var all, kept []keyapi.SessionNotice
	if err := json.Unmarshal(n.Value, &all); err != nil {
		return nil, fmt.Errorf("store is damaged: notices of sessions: %w", err)
	}
	for _, x := range all {
		if now.Sub(x.At) < noticeLifetime {
			kept = append(kept, x)
		}
	}
	return kept, nil
}

// noteReuse keeps, in the transaction that ends a session, that a used refresh
// token of it was presented.
func noteReuse(w Writer, x *Session, now time.Time) error {
	list, err := noticesOf(w, x.User, now)
	if err != nil {
		return err
	}
	list = append(list, keyapi.SessionNotice{Kind: keyapi.NoticeTokenReused, At: now.UTC(), SessionID: x.ID[:], Device: x.Device})
	b, err := json.Marshal(list[max(0, len(list)-maxSessionNotices):])
	if err != nil {
		return err
	}
	return w.PutNote(&Note{Kind: NoteSessions, Owner: x.User[:], Value: b, Expires: now.Add(noticeLifetime)})
}
