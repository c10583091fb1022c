package keyserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What an operator does with users. None of it is reached over the API.

// UserInfo is what an operator sees of a user.
type UserInfo struct {
	ID       UserID            `json:"id"`
	Name     string            `json:"name"` // empty at a server without the role auth
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
		if len(users) == 0 && after == "" && !s.has(RoleAuth) {
			return fmt.Errorf("%w, which knows the users: list them at %s", ErrElsewhere, s.Auth.URL)
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

// UserInfo describes one user, by the name as a person writes it or, at a server
// without the role auth, by the id in hexadecimal; ErrNoUser.
func (s *Server) UserInfo(ctx context.Context, name string) (info *UserInfo, err error) {
	err = s.Store.View(ctx, func(r Reader) error {
		u, err := s.userAsTyped(r, name)
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

// ErrElsewhere: it is done at the server with the role auth.
var ErrElsewhere = errors.New("this server has not the role auth")

// userAsTyped finds a user by a name as a person writes it. A server without
// the role auth has no names, unless it shares its store with the one that has
// it: there it finds a user by the id, if it keeps anything of theirs.
func (s *Server) userAsTyped(r Reader, typed string) (*User, error) {
	if canonical, err := canonicalName(typed); err == nil {
		u, err := r.UserByName(canonical)
		if err != nil || u != nil {
			return u, err
		}
	} else if s.has(RoleAuth) {
		return nil, fmt.Errorf("%w: %q is no user name", ErrNoUser, typed)
	}
	if s.has(RoleAuth) {
		return nil, fmt.Errorf("%w: %q", ErrNoUser, typed)
	}
	var id UserID
	if err := id.UnmarshalText([]byte(typed)); err != nil {
		return nil, fmt.Errorf("%w: %q: %w and knows no names; name the user's id, 32 hexadecimal digits, which 'cloudmls keyserver admin users' shows at the server that has it, %s",
			ErrNoUser, typed, ErrElsewhere, s.Auth.URL)
	}
	kept, err := s.keepsOf(r, id)
	if err == nil && !kept {
		err = fmt.Errorf("%w: nothing is kept here of the user with the id %s", ErrNoUser, id)
	}
	if err != nil {
		return nil, err
	}
	return &User{ID: id}, nil
}

// keepsOf tells whether a server without the role auth has anything of a user.
func (s *Server) keepsOf(r Reader, u UserID) (bool, error) {
	use, err := r.Usage(u)
	if err != nil || use.Objects > 0 {
		return true, err
	}
	accounts, err := r.Accounts(u)
	if err != nil || len(accounts) > 0 {
		return true, err
	}
	for _, kind := range []NoteKind{NoteQuota, NoteMove} {
		n, err := r.Note(kind, u[:], nil, s.Now())
		if err != nil || n != nil {
			return true, err
		}
	}
	return false, nil
}

// EndSessions ends one session of a user, or all of them, at once and on every
// process of the server. It returns how many it ended.
func (s *Server) EndSessions(ctx context.Context, name string, only *SessionID) (n int, err error) {
	var ended []SessionID
	err = s.Store.Update(ctx, func(w Writer) error {
		ended = nil
		u, err := s.userAsTyped(w, name)
		if err != nil {
			return err
		}
		if u.Name == "" {
			return fmt.Errorf("%w, where sessions are: end them at %s", ErrElsewhere, s.Auth.URL)
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
// every process. The user is named as for UserInfo.
func (s *Server) RemoveUser(ctx context.Context, name string) error {
	var ended []SessionID
	err := s.Store.Update(ctx, func(w Writer) error {
		u, err := s.userAsTyped(w, name)
		if err != nil {
			return err
		}
		ended, err = deleteUser(w, u, s.CipherSuites)
		return err
	})
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
// name. The user is named as for UserInfo.
func (s *Server) ExportUser(ctx context.Context, name string, to io.Writer) error {
	return s.Store.View(ctx, func(r Reader) error {
		u, err := s.userAsTyped(r, name)
		if err != nil {
			return err
		}
		return exportUser(r, u, to)
	})
}
