package service

import (
	"context"
	"errors"
	"log/slog"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/proxy"
)

// Options of a Service.
type Options struct {
	// Client is the user's. Required; the caller closes it.
	Client *cloudmls.Client
	// Gateway is the one that runs in this process; nil if none does.
	Gateway *proxy.Gateway
	// Reload reads the configuration anew and brings it about, mostly by
	// proxy.Gateway.Reload; its errors are best made by control.Error with
	// CodeConfig. nil means that there is nothing to reload.
	Reload func(ctx context.Context) (*control.Reloaded, error)
	// Version of the program.
	Version string
	// Logger gets no names and no secrets above debug level; nil discards.
	Logger *slog.Logger
}

// service implements control.Service. It is safe for concurrent use.
type service struct {
	o Options
}

// New checks the options.
func New(o Options) (control.Service, error) {
	if o.Client == nil {
		return nil, errors.New("control service: Client is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &service{o: o}, nil
}

// Reload implements control.Service.
func (s *service) Reload(ctx context.Context) (*control.Reloaded, error) {
	if s.o.Gateway == nil || s.o.Reload == nil {
		return nil, &control.Error{
			Code: control.CodeNotRunning, Message: "no gateway is running", Hint: "it reads its configuration when it starts: cloudmls run",
		}
	}
	r, err := s.o.Reload(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	return r, nil
}

// Sync implements control.Service.
func (s *service) Sync(ctx context.Context, account string) (*control.Synced, error) {
	self, err := accountOf(account)
	if err != nil {
		return nil, err
	}
	var r cloudmls.SyncResult
	if s.o.Gateway != nil {
		r, err = s.o.Gateway.Sync(ctx, self.ID)
	} else {
		r, err = s.o.Client.Sync(ctx, self)
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return &control.Synced{
		Processed: r.Processed, Joined: ids(r.Joined), Replaced: ids(r.Replaced), Changed: ids(r.Changed),
		Removed: ids(r.Removed), Problems: len(r.Problems),
	}, nil
}

func ids(list []cloudmls.ConversationID) []string {
	var out []string
	for _, id := range list {
		out = append(out, id.String())
	}
	return out
}

// accountOf reads a mail address.
func accountOf(address string) (cloudmls.Account, error) {
	id, err := groupid.Canonical(address)
	if err != nil {
		return cloudmls.Account{}, &control.Error{Code: control.CodeInvalid, Message: "that is no mail address: " + err.Error(), Err: err}
	}
	return cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: id}, nil
}

// pairOf reads the addresses of an account and of a contact.
func pairOf(account, address string) (self, other cloudmls.Account, err error) {
	if self, err = accountOf(account); err != nil {
		return self, other, err
	}
	other, err = accountOf(address)
	return self, other, err
}
