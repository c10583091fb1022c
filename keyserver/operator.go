package keyserver

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What an operator does with users. None of it is reached over the API.

// UserInfo is what an operator sees of a user.
type UserInfo struct {
	ID       UserID            `json:"id"`
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Objects  int               `json:"objects"`
	Bytes    int64             `json:"bytes"` // of the objects
	Quota    Quota             `json:"quota"` // what they may take up
	Accounts []OperatorAccount `json:"accounts"`
	Sessions []OperatorSession `json:"sessions"`
}

// OperatorAccount is an account of a user.
type OperatorAccount struct {
	Account    keyapi.Account `json:"account"`
	ProofLevel int            `json:"proof_level"`
	Created    time.Time      `json:"created"`
	Waiting    int            `json:"waiting"` // messages in the inbox
}

// OperatorSession is a device that is signed in.
type OperatorSession struct {
	ID      SessionID `json:"id"`
	Device  string    `json:"device"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
}

// Users lists at most limit users behind a name, ordered by name, each as
// UserInfo without accounts and sessions.
func (s *Server) Users(ctx context.Context, after string, limit int) (list []UserInfo, err error) {
	err = s.Store.View(ctx, func(r Reader) error {
		users, err := r.Users(after, limit)
		if err != nil {
			return err
		}
		list = make([]UserInfo, len(users))
		for i := range users {
			if list[i], err = s.userInfo(r, &users[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

func (s *Server) userInfo(r Reader, u *User) (UserInfo, error) {
	use, err := r.Usage(u.ID)
	if err != nil {
		return UserInfo{}, err
	}
	q, err := s.quotaOf(r, u.ID)
	return UserInfo{ID: u.ID, Name: u.Name, Created: u.Created, Objects: use.Objects, Bytes: use.Bytes, Quota: q}, err
}

// UserInfo describes one user; ErrNoUser.
func (s *Server) UserInfo(ctx context.Context, name string) (info *UserInfo, err error) {
	err = s.Store.View(ctx, func(r Reader) error {
		u, err := userAsTyped(r, name)
		if err != nil {
			return err
		}
		i, err := s.userInfo(r, u)
		if err != nil {
			return err
		}
		info = &i
		accounts, err := r.Accounts(u.ID)
		if err != nil {
			return err
		}
		for _, a := range accounts {
			use, err := r.InboxUsage(a.Account, u.ID)
			if err != nil {
				return err
			}
			info.Accounts = append(info.Accounts, OperatorAccount{a.Account, a.ProofLevel, a.Created, use.Messages})
		}
		sessions, err := r.Sessions(u.ID)
		for _, x := range sessions {
			info.Sessions = append(info.Sessions, OperatorSession{x.ID, x.Device.Name, x.Created, x.Used})
		}
		return err
	})
	return info, err
}

// userAsTyped finds a user by a name as a person writes it.
func userAsTyped(r Reader, name string) (*User, error) {
	canonical, err := canonicalName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no user name", ErrNoUser, name)
	}
	return userNamed(r, canonical)
}

// EndSessions ends one session of a user, or all of them, at once and on every
// process of the server. It returns how many it ended.
func (s *Server) EndSessions(ctx context.Context, name string, only *SessionID) (n int, err error) {
	var ended []SessionID
	err = s.Store.Update(ctx, func(w Writer) error {
		ended = nil
		u, err := userAsTyped(w, name)
		if err != nil {
			return err
		}
		ended, err = endSessions(w, u.ID, only)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, id := range ended {
		s.waiting.wakeSession(id)
	}
	return len(ended), nil
}

func endSessions(w Writer, u UserID, only *SessionID) (ended []SessionID, err error) {
	all, err := w.Sessions(u)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		if only != nil && x.ID != *only {
			continue
		}
		if err := w.DeleteSession(x.ID); err != nil {
			return nil, err
		}
		ended = append(ended, x.ID)
	}
	return ended, nil
}

// RemoveUser is DeleteUser for a server that serves: sessions end at once, on
// every process.
func (s *Server) RemoveUser(ctx context.Context, name string) error {
	u, err := s.UserInfo(ctx, name)
	if err != nil {
		return err
	}
	ended, err := DeleteUser(ctx, s.Store, u.Name, s.CipherSuites)
	if err != nil {
		return err
	}
	for _, id := range ended {
		s.waiting.wakeSession(id)
	}
	s.log.Info("a user was removed")
	return nil
}

// ExportUser writes all that the store has of a user; see the function of this
// name.
func (s *Server) ExportUser(ctx context.Context, name string, to io.Writer) error {
	u, err := s.UserInfo(ctx, name)
	if err != nil {
		return err
	}
	return ExportUser(ctx, s.Store, u.Name, to)
}
