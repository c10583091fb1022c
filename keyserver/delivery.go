package keyserver

import (
	"context"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const defaultDeliveries = 64

type deliveriesInput struct {
	Platform string `path:"platform"`
	ID       string `path:"id"`
	After    uint64 `query:"after" doc:"The last Seq already handled."`
	Limit    int    `query:"limit" minimum:"0" maximum:"256" doc:"At most this many messages; 0: the server's choice."`
	Wait     int    `query:"wait" minimum:"0" maximum:"60" doc:"Seconds to wait for the first message."`
}

func (in *deliveriesInput) account() keyapi.Account { return accountPath{in.Platform, in.ID}.account() }

// deliveries reads an inbox after a cursor. Reading removes nothing: messages
// stay until they are acknowledged.
func (s *Server) deliveries(ctx context.Context, in *deliveriesInput) (*output[keyapi.Deliveries], error) {
	who := bearer(ctx)
	if in.Limit == 0 {
		in.Limit = defaultDeliveries
	}
	// Who may not read the inbox does not wait either: that would take room from
	// who may.
	page, err := s.readInbox(ctx, who, in)
	if err != nil || in.Wait == 0 || len(page.Body.Messages) > 0 {
		return page, err
	}
	p := parkingOf(ctx)
	if p == nil || p.last {
		return page, nil
	}
	if p.place == nil {
		if s.park(p, who, in, network(ctx)) == nil {
			return nil, rateLimited(time.Second)
		}
		if page, err = s.readInbox(ctx, who, in); err != nil || len(page.Body.Messages) > 0 {
			return page, err
		}
	}
	p.waits = true
	return page, nil // to nobody
}

// readInbox checks session and ownership each time it looks, so that a logout
// ends a long-poll too.
func (s *Server) readInbox(ctx context.Context, who identity, in *deliveriesInput) (*output[keyapi.Deliveries], error) {
	var page keyapi.Deliveries
	var reserved int64
	if _, err := s.remoteSession(ctx, who); err != nil {
		return nil, err
	}
	err := s.Store.View(ctx, func(r Reader) (err error) {
		if err := r.Foresee(&Plan{User: who.user, Session: who.session, Accounts: []keyapi.Account{in.account()}}); err != nil {
			return err
		}
		if err := s.present(r, who); err != nil {
			return err
		}
		if _, err := owned(r, who.user, in.account()); err != nil {
			return err
		}
		if page.Last, err = r.LastSeq(in.account()); err != nil {
			return err
		}
		if page.Last > in.After {
			if reserved, err = s.reservePage(ctx, r, in.account()); err != nil {
				return err
			}
		}
		page.Messages, err = r.Deliveries(in.account(), in.After, in.Limit, s.Limits.AnswerBytes)
		return err
	})
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for i := range page.Messages {
		size += int64(len(page.Messages[i].Message))
	}
	return &output[keyapi.Deliveries]{page}, s.hold(ctx, size-reserved)
}

// reservePage counts the longest page that an inbox can give before it is read: who
// asks a hundred times at once has it a hundred times in memory otherwise.
func (s *Server) reservePage(ctx context.Context, r Reader, a keyapi.Account) (int64, error) {
	var nobody UserID
	waiting, err := r.InboxUsage(a, nobody)
	if err != nil {
		return 0, err
	}
	n := min(waiting.Bytes, int64(max(s.Limits.AnswerBytes, keyapi.MaxObjectSize)))
	return n, s.hold(ctx, n)
}

type ackInput struct {
	Platform string `path:"platform"`
	ID       string `path:"id"`
	Body     keyapi.AckRequest
}

func (in *ackInput) account() keyapi.Account { return accountPath{in.Platform, in.ID}.account() }

func (s *Server) acknowledge(ctx context.Context, in *ackInput) (*struct{}, error) {
	u := caller(ctx).user
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	err := s.update(ctx, func(w Writer) error {
		return acknowledge(w, u, keyapi.AckRequestFor{Account: in.account(), Seq: in.Body.Seq})
	}, in.account())
	return nil, err
}
