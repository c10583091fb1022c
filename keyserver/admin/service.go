package admin

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// Operator is what an operator can do. *Service and *Client implement it.
type Operator interface {
	// Users lists at most limit users behind a name, ordered by name.
	Users(ctx context.Context, after string, limit int) ([]keyserver.UserInfo, error)
	User(ctx context.Context, name string) (*keyserver.UserInfo, error)
	// SetQuota lets a user have more than others; the zero Quota takes it back.
	SetQuota(ctx context.Context, name string, q keyserver.Quota) error
	// EndSessions ends one session of a user, or with nil all of them.
	EndSessions(ctx context.Context, name string, session *keyserver.SessionID) (int, error)
	RemoveUser(ctx context.Context, name string) error
	// Export writes everything that the server keeps for a user.
	Export(ctx context.Context, name string, to io.Writer) error
	Invite(ctx context.Context, lifetime time.Duration, comment string) (code string, i *keyserver.Invitation, err error)
	Invitations(ctx context.Context) ([]keyserver.Invitation, error)
	RevokeInvitation(ctx context.Context, id string) error
	// Check reads everything and names what is wrong.
	Check(ctx context.Context) (findings []string, err error)
	// Backup writes a copy of the store as it is at one moment.
	Backup(ctx context.Context, to io.Writer) error
}

// ErrNoBackup tells that the store is backed up by other means.
var ErrNoBackup = errors.New("this store is backed up by the database's own means, e.g. pg_dump or continuous archiving")

// Service is an Operator in the server's own process, or in one that has the
// store open.
type Service struct {
	Server *keyserver.Server
	Store  Store
}

// Store is what both stores have beyond keyserver.Store.
type Store interface {
	keyserver.Store
	Check(ctx context.Context) (findings []string, err error)
}

// backuper is a store that copies itself while it serves.
type backuper interface {
	Backup(ctx context.Context, w io.Writer) (n int64, err error)
}

var _ Operator = (*Service)(nil)

// Users implements Operator.
func (s *Service) Users(ctx context.Context, after string, limit int) ([]keyserver.UserInfo, error) {
	return s.Server.Users(ctx, after, limit)
}

// User implements Operator.
func (s *Service) User(ctx context.Context, name string) (*keyserver.UserInfo, error) {
	return s.Server.UserInfo(ctx, name)
}

// SetQuota implements Operator.
func (s *Service) SetQuota(ctx context.Context, name string, q keyserver.Quota) error {
	u, err := s.Server.UserInfo(ctx, name)
	if err != nil {
		return err
	}
	return s.Server.SetQuota(ctx, u.ID, q)
}

// EndSessions implements Operator.
func (s *Service) EndSessions(ctx context.Context, name string, session *keyserver.SessionID) (int, error) {
	return s.Server.EndSessions(ctx, name, session)
}

// RemoveUser implements Operator.
func (s *Service) RemoveUser(ctx context.Context, name string) error {
	return s.Server.RemoveUser(ctx, name)
}

// Export implements Operator.
func (s *Service) Export(ctx context.Context, name string, to io.Writer) error {
	return s.Server.ExportUser(ctx, name, to)
}

// Invite implements Operator.
func (s *Service) Invite(ctx context.Context, lifetime time.Duration, comment string) (string, *keyserver.Invitation, error) {
	return s.Server.CreateInvitation(ctx, lifetime, comment)
}

// Invitations implements Operator.
func (s *Service) Invitations(ctx context.Context) ([]keyserver.Invitation, error) {
	return s.Server.Invitations(ctx)
}

// RevokeInvitation implements Operator.
func (s *Service) RevokeInvitation(ctx context.Context, id string) error {
	return s.Server.RevokeInvitation(ctx, id)
}

// Check implements Operator.
func (s *Service) Check(ctx context.Context) ([]string, error) { return s.Store.Check(ctx) }

// Backup implements Operator.
func (s *Service) Backup(ctx context.Context, to io.Writer) error {
	b, ok := s.Store.(backuper)
	if !ok {
		return ErrNoBackup
	}
	_, err := b.Backup(ctx, to)
	return err
}
