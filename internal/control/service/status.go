package service

import (
	"context"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/proxy"
)

// Status implements control.Service.
func (s *service) Status(ctx context.Context) (*control.Status, error) {
	if s.o.Gateway == nil {
		return s.localStatus(ctx)
	}
	g := s.o.Gateway.Status(ctx)
	out := &control.Status{
		Running: true, Version: s.o.Version, Started: g.Started, Reloads: g.Reloads, Accounts: []control.AccountStatus{},
	}
	for _, a := range g.Accounts {
		out.Accounts = append(out.Accounts, accountStatus(&a))
	}
	for _, q := range g.Stranded {
		out.Stranded = append(out.Stranded, control.Stranded{Address: q.Address, Queue: queueStatus(&q.Queue)})
	}
	return out, nil
}

// localStatus is what is known without a gateway.
func (s *service) localStatus(ctx context.Context) (*control.Status, error) {
	accounts, err := s.o.Client.Accounts(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	out := &control.Status{Accounts: []control.AccountStatus{}}
	for _, a := range accounts {
		if a.Platform != cloudmls.PlatformEmail {
			continue
		}
		status, err := proxy.LocalStatus(ctx, s.o.Client, a.ID)
		if err != nil {
			return nil, s.failed(err)
		}
		out.Accounts = append(out.Accounts, accountStatus(&status))
	}
	return out, nil
}

func accountStatus(a *proxy.AccountStatus) control.AccountStatus {
	k := &a.KeyServer
	out := control.AccountStatus{
		Address: a.Address, IMAP: providerStatus(&a.IMAP), SMTP: providerStatus(&a.SMTP),
		KeyServer: control.KeyServerStatus{
			State: control.SyncState(k.State), LastSync: k.LastSync, LastError: fault(k.LastError), Failing: k.Failing,
			RetryAt: k.RetryAt, KeyPackages: k.KeyPackages, LastResort: k.LastResort, Counted: k.Counted,
		},
		Queue: queueStatus(&a.Queue), Conversations: a.Conversations, Contacts: a.Contacts,
	}
	for _, p := range a.Problems {
		q := control.Problem{Kind: string(p.Kind), Text: p.Text, Since: p.Since, Contact: p.Contact, Verified: p.Verified, Mailbox: p.Mailbox}
		if !p.Conversation.IsZero() {
			q.Conversation = p.Conversation.String()
		}
		out.Problems = append(out.Problems, q)
	}
	return out
}

func providerStatus(p *proxy.ProviderStatus) control.ProviderStatus {
	return control.ProviderStatus{
		Server: p.Server, LastSuccess: p.LastSuccess, LastError: fault(p.LastError), Failing: p.Failing, Sessions: p.Sessions,
	}
}

func queueStatus(q *proxy.QueueStatus) control.QueueStatus {
	out := control.QueueStatus{
		Entries: q.Entries, Octets: q.Octets, Oldest: q.Oldest, NextAttempt: q.NextAttempt, LastError: fault(q.LastError),
	}
	for _, f := range q.Failed {
		out.Failed = append(out.Failed, control.FailedDelivery{Time: f.Time, Recipients: f.Recipients, Text: f.Text})
	}
	return out
}

func fault(f *proxy.Fault) *control.Fault {
	if f == nil {
		return nil
	}
	return &control.Fault{Kind: string(f.Kind), Text: f.Text, Time: f.Time}
}
