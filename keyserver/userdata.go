package keyserver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// ErrNoUser: nobody has this name.
var ErrNoUser = errors.New("no such user")

// UserSummary is what an operator sees of a user.
type UserSummary struct {
	ID       UserID           `json:"id"`
	Name     string           `json:"name"`
	Created  time.Time        `json:"created"`
	Seen     time.Time        `json:"seen"` // when a session was opened or refreshed last; zero: there is none
	Sessions int              `json:"sessions"`
	Accounts []keyapi.Account `json:"accounts"`
	Objects  int              `json:"objects"`
	Bytes    int64            `json:"bytes"` // of the objects
	// Waiting and WaitingBytes are messages in the inboxes of the accounts.
	Waiting      int   `json:"waiting"`
	WaitingBytes int64 `json:"waiting_bytes"`
}

// ListUsers lists at most limit users, ordered by name, behind a name.
func ListUsers(ctx context.Context, s Store, after string, limit int) ([]UserSummary, error) {
	var list []UserSummary
	err := s.View(ctx, func(r Reader) error {
		list = nil
		users, err := r.Users(after, limit)
		if err != nil {
			return err
		}
		for i := range users {
			u, err := summarize(r, &users[i])
			if err != nil {
				return err
			}
			list = append(list, *u)
		}
		return nil
	})
	return list, err
}

func summarize(r Reader, u *User) (*UserSummary, error) {
	out := &UserSummary{ID: u.ID, Name: u.Name, Created: u.Created, Accounts: []keyapi.Account{}}
	sessions, err := r.Sessions(u.ID)
	if err != nil {
		return nil, err
	}
	out.Sessions = len(sessions)
	for i := range sessions {
		if sessions[i].Used.After(out.Seen) {
			out.Seen = sessions[i].Used
		}
	}
	use, err := r.Usage(u.ID)
	if err != nil {
		return nil, err
	}
	out.Objects, out.Bytes = use.Objects, use.Bytes
	accounts, err := r.Accounts(u.ID)
	if err != nil {
		return nil, err
	}
	for i := range accounts {
		inbox, err := r.InboxUsage(accounts[i].Account, u.ID)
		if err != nil {
			return nil, err
		}
		out.Accounts = append(out.Accounts, accounts[i].Account)
		out.Waiting, out.WaitingBytes = out.Waiting+inbox.Messages, out.WaitingBytes+inbox.Bytes
	}
	return out, nil
}

// userNamed finds a user by the name as it is stored.
func userNamed(r Reader, name string) (*User, error) {
	u, err := r.UserByName(name)
	if err == nil && u == nil {
		err = fmt.Errorf("%w: %q", ErrNoUser, name)
	}
	return u, err
}

// exportedSession leaves out everything that has to do with tokens.
type exportedSession struct {
	ID      SessionID     `json:"id"`
	Device  keyapi.Device `json:"device"`
	Created time.Time     `json:"created"`
	Used    time.Time     `json:"used"`
}

// ExportUser writes all that the store has of a user, as it is at one moment, one
// JSON document a line with its sort in "type": user, session, quota, place (of the
// objects, where they have moved), directions (sealed, to where they are), session notices, object (sealed: only the user's password opens
// it), account, delivery. KeyPackages, which everybody may claim, and what signs the user in,
// hashes included, are left out: an export is no key.
func ExportUser(ctx context.Context, s Store, name string, w io.Writer) error {
	return s.View(ctx, func(r Reader) error {
		u, err := userNamed(r, name)
		if err != nil {
			return err
		}
		return exportUser(r, u, w)
	})
}

func exportUser(r Reader, u *User, w io.Writer) error {
	out := json.NewEncoder(w)
	line := func(sort string, v any) error {
		return out.Encode(struct {
			Type string `json:"type"`
			Data any    `json:"data"`
		}{sort, v})
	}
	about, err := summarize(r, u)
	if err != nil {
		return err
	}
	if err := line("user", about); err != nil {
		return err
	}
	sessions, err := r.Sessions(u.ID)
	if err != nil {
		return err
	}
	for i := range sessions {
		x := &sessions[i]
		if err := line("session", exportedSession{x.ID, x.Device, x.Created, x.Used}); err != nil {
			return err
		}
	}
	if err := exportNotes(r, u.ID, line); err != nil {
		return err
	}
	if err := exportObjects(r, u.ID, line); err != nil {
		return err
	}
	accounts, err := r.Accounts(u.ID)
	if err != nil {
		return err
	}
	for i := range accounts {
		if err := exportAccount(r, &accounts[i], line); err != nil {
			return err
		}
	}
	return nil
}

// exportNotes writes what is kept of a user as notes; the values are JSON.
func exportNotes(r Reader, u UserID, line func(string, any) error) error {
	for _, x := range []struct {
		sort string
		kind NoteKind
	}{{"quota", NoteQuota}, {"place", NoteMove}, {"directions", NoteDirections}, {"session notices", NoteSessions}} {
		n, err := r.Note(x.kind, u[:], nil, time.Now())
		if err == nil && n != nil {
			err = line(x.sort, json.RawMessage(n.Value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func exportObjects(r Reader, u UserID, line func(string, any) error) error {
	versions, err := r.ObjectVersions(u)
	if err != nil {
		return err
	}
	for _, v := range versions {
		o, err := r.Object(u, v.ID)
		if err != nil {
			return err
		}
		if o == nil {
			return fmt.Errorf("store is damaged: object %x is listed but not there", v.ID)
		}
		if err := line("object", o); err != nil {
			return err
		}
	}
	return nil
}

// exportPage bounds the octets of messages in memory; a single one may have more.
const exportPage = 8 << 20

func exportAccount(r Reader, a *Account, line func(string, any) error) error {
	about := struct {
		keyapi.AccountInfo
		Rotations []keyapi.Rotation `json:"rotations,omitempty"`
		Created   time.Time         `json:"created"`
	}{a.info(), a.Rotations, a.Created}
	if err := line("account", about); err != nil {
		return err
	}
	for after := uint64(0); ; {
		page, err := r.Deliveries(a.Account, after, keyapi.MaxDeliveries, exportPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if err := line("delivery", &page[i]); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Seq
	}
}

// DeleteUser deletes all that the store has of a user, in one transaction, and
// gives the sessions that it ended. Messages that the user has sent stay with
// those who wait for them; conversations are not known to be anybody's. Name and
// accounts are free for others from then on, who have other identity keys:
// correspondents are told. The user id is nobody's again: of it a hash is kept.
// suites are those whose KeyPackages the server has ever accepted; those that
// this program implements need not be named. Answers that are kept for
// requests sent twice are not found by user, and end by themselves.
func DeleteUser(ctx context.Context, s Store, name string, suites []mls.CipherSuite) (ended []SessionID, err error) {
	err = s.Update(ctx, func(w Writer) error {
		u, err := userNamed(w, name)
		if err != nil {
			return err
		}
		ended, err = deleteUser(w, u, suites)
		return err
	})
	return ended, err
}

func deleteUser(w Writer, u *User, suites []mls.CipherSuite) (ended []SessionID, err error) {
	if ended, err = endSessions(w, u.ID, nil); err != nil {
		return nil, err
	}
	if err := deleteAccounts(w, u.ID, suites); err != nil {
		return nil, err
	}
	if err := deleteNotes(w, u.ID); err != nil {
		return nil, err
	}
	if err := w.PutNote(&Note{Kind: NoteRemoved, Owner: removedName(u.ID)}); err != nil {
		return nil, err
	}
	return ended, w.DeleteUser(u.ID)
}

// removedName is what stays of a deleted user: nobody else may get the id, or
// servers with other roles, and tokens that have not ended, would take the one
// for the other. Whoever does not know the id learns nothing from it.
func removedName(u UserID) []byte {
	h := sha256.Sum256(append([]byte("removed user\x00"), u[:]...))
	return h[:]
}

// idTaken tells whether somebody has a user id, or had it.
func idTaken(r Reader, u UserID, now time.Time) (bool, error) {
	have, err := r.User(u)
	if err != nil || have != nil {
		return have != nil, err
	}
	n, err := r.Note(NoteRemoved, removedName(u), nil, now)
	return n != nil, err
}

func deleteAccounts(w Writer, u UserID, suites []mls.CipherSuite) error {
	accounts, err := w.Accounts(u)
	if err != nil {
		return err
	}
	for i := range accounts {
		if err := deleteAccount(w, accounts[i].Account, suites); err != nil {
			return err
		}
	}
	return nil
}

// deleteAccount deletes an account with its inbox and the pools of all suites.
func deleteAccount(w Writer, a keyapi.Account, suites []mls.CipherSuite) error {
	for _, cs := range everySuite(suites) {
		if err := w.DeleteAccount(poolName(a, cs)); err != nil {
			return err
		}
	}
	return nil
}

func deleteNotes(w Writer, u UserID) error {
	for _, kind := range []NoteKind{NoteQuota, NoteMove, NoteDirections, NoteSessions} {
		if err := w.DeleteNote(kind, u[:], nil); err != nil {
			return err
		}
	}
	return nil
}
