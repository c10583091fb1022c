package keyserver

import (
	"cmp"
	"context"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// sessions lists the caller's sessions, the latest first.
func (s *Server) sessions(ctx context.Context, _ *struct{}) (*output[keyapi.SessionList], error) {
	id := caller(ctx)
	list := keyapi.SessionList{Sessions: []keyapi.SessionInfo{}}
	err := s.Store.View(ctx, func(r Reader) error {
		all, err := r.Sessions(id.user)
		if err != nil { // what there is of a list comes with the next run again
			return err
		}
		for _, x := range all {
			list.Sessions = append(list.Sessions, keyapi.SessionInfo{
				SessionID: x.ID[:], Device: x.Device, Created: x.Created, Used: x.Used, Current: x.ID == id.session,
			})
		}
		return nil
	})
	slices.SortFunc(list.Sessions, func(a, b keyapi.SessionInfo) int {
		return cmp.Or(b.Created.Compare(a.Created), slices.Compare(a.SessionID, b.SessionID))
	})
	return &output[keyapi.SessionList]{list}, err
}

type sessionPath struct {
	Session string `path:"session"`
}

// endSession ends a session of the caller, at once. That there is none is no
// error, and of other users' sessions nothing is said.
func (s *Server) endSession(ctx context.Context, in *sessionPath) (*struct{}, error) {
	u := caller(ctx).user
	var id SessionID
	if err := id.UnmarshalText([]byte(in.Session)); err != nil {
		return nil, invalid("session id: " + err.Error())
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	err := s.update(ctx, func(w Writer) error {
		have, err := w.Session(id)
		if err != nil || have == nil || have.User != u {
			return err
		}
		return w.DeleteSession(id)
	})
	if err != nil {
		return nil, err
	}
	s.waiting.wakeSession(id)
	return nil, nil
}
