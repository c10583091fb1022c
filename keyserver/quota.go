package keyserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Quota is what one user's sealed objects may take up, where it is more than
// Limits gives to everybody. Zero fields mean the limit of everybody.
type Quota struct {
	Objects int   `json:"objects,omitempty"`
	Bytes   int64 `json:"bytes,omitempty"`
}

// SetQuota lets a user have more than others; the zero Quota takes it back. What
// the user has already stays.
func (s *Server) SetQuota(ctx context.Context, u UserID, q Quota) error {
	if q.Objects < 0 || q.Bytes < 0 {
		return errors.New("set quota: negative")
	}
	b, err := json.Marshal(q)
	if err != nil {
		return err
	}
	err = s.Store.Update(ctx, func(w Writer) error {
		if q == (Quota{}) {
			return w.DeleteNote(NoteQuota, u[:], nil)
		}
		return w.PutNote(&Note{Kind: NoteQuota, Owner: u[:], Value: b})
	})
	if err != nil {
		return fmt.Errorf("set quota: %w", err)
	}
	return nil
}

// QuotaOf is what a user may take up, and what the user takes up.
func (s *Server) QuotaOf(ctx context.Context, u UserID) (q Quota, use Usage, err error) {
	err = s.Store.View(ctx, func(r Reader) error {
		if use, err = r.Usage(u); err != nil {
			return err
		}
		q, err = s.quotaOf(r, u)
		return err
	})
	return q, use, err
}

func (s *Server) quotaOf(r Reader, u UserID) (Quota, error) {
	q := Quota{s.Limits.Objects, s.Limits.ObjectBytes}
	n, err := r.Note(NoteQuota, u[:], nil, s.Now())
	if err != nil || n == nil {
		return q, err
	}
	var own Quota
	if err := json.Unmarshal(n.Value, &own); err != nil {
		return q, fmt.Errorf("store is damaged: quota: %w", err)
	}
	return Quota{max(q.Objects, own.Objects), max(q.Bytes, own.Bytes)}, nil
}

// checkUsage refuses to grow beyond the quota. Who is beyond it because it was
// lowered may make room. The user's own quota is looked up for those only whom
// everybody's does not let pass.
func (s *Server) checkUsage(r Reader, u UserID, before Usage) error {
	use, err := r.Usage(u)
	if err != nil {
		return err
	}
	within := func(q Quota) bool {
		return use.Objects <= max(q.Objects, before.Objects) && use.Bytes <= max(q.Bytes, before.Bytes)
	}
	if within(Quota{s.Limits.Objects, s.Limits.ObjectBytes}) {
		return nil
	}
	q, err := s.quotaOf(r, u)
	if err == nil && !within(q) {
		err = quota("sealed state takes too much room")
	}
	return err
}
