package service

import (
	"context"
	"fmt"

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
		status := accountStatus(&a)
		if err := s.addNotices(ctx, &status); err != nil {
			return nil, err
		}
		out.Accounts = append(out.Accounts, status)
	}
	out.Events = s.events()
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
		with := accountStatus(&status)
		if err := s.addNotices(ctx, &with); err != nil {
			return nil, err
		}
		out.Accounts = append(out.Accounts, with)
	}
	out.Events = s.events()
	return out, nil
}

// addNotices adds what was told of the account's conversations and contacts.
func (s *service) addNotices(ctx context.Context, a *control.AccountStatus) error {
	status, err := s.o.Client.Status(ctx, cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: a.Address})
	if err != nil {
		return s.failed(err)
	}
	for _, n := range status.Notices {
		told := control.Notice{At: n.At, Contact: n.Account.ID, Text: n.Text}
		if !n.Conversation.IsZero() {
			told.Conversation = n.Conversation.String()
		}
		a.Notices = append(a.Notices, told)
	}
	return nil
}

var eventTexts = map[cloudmls.EventKind]string{
	cloudmls.EventDeviceAdded:   "a device was added: %s",
	cloudmls.EventDeviceRemoved: "a device was removed: %s",
	cloudmls.EventPassword:      "the password was changed on %s",
	cloudmls.EventRecoveryCode:  "the recovery code was replaced on %s",
	cloudmls.EventRecovered:     "somebody signed in with the recovery code, on %s",
	cloudmls.EventKeysRotated:   "all keys were replaced, on %s",
	cloudmls.EventStoreMoved:    "the sealed state was moved to another store, on %s",
	cloudmls.EventTokenReused:   "the key server ended the session of %s: a token of it was used twice, and may have been copied",
}

func (s *service) events() []control.Event {
	var out []control.Event
	for _, e := range s.o.Client.Events() {
		text, ok := eventTexts[e.Kind]
		if !ok {
			text = "something happened to the keys on %s (this version does not know what)"
		}
		out = append(out, control.Event{At: e.At, Text: fmt.Sprintf(text, e.Device)})
	}
	return out
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
