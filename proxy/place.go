package proxy

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/smtpd"
)

// place is an address of the gateway over all reloads. Whoever works for it
// takes the account once per piece of work, so that one message is never
// treated under two settings.
type place struct {
	id   string
	now  atomic.Pointer[account]
	gone atomic.Bool        // the account was removed
	stop context.CancelFunc // ends the background loop; under Gateway.mu
	// ahead runs what begins before a message is there, one thing at a time.
	ahead      *errands
	syncsAhead atomic.Bool
}

func newPlace(a *account, spoolDir string, ahead *errands) *place {
	p := &place{id: a.self.ID, ahead: ahead}
	a.spoolDir = spoolDir
	p.now.Store(a)
	return p
}

// change puts other settings in place. What an account has learnt stays.
func (p *place) change(next *account) {
	old := p.now.Load()
	next.spoolDir, next.generation = old.spoolDir, old.generation+1
	next.threads, next.verdicts, next.index = old.threads, old.verdicts, old.index
	next.syncing, next.waiting, next.health = old.syncing, old.waiting, old.health
	p.now.Store(next)
}

// placeOf gives the place behind an account of imapd or smtpd.
func placeOf(account any) *place {
	switch a := account.(type) {
	case imapAccount:
		return a.place
	case smtpAccount:
		return a.place
	}
	return nil
}

// goneText is what mail clients of a removed account read.
const goneText = "This account was removed from the gateway"

// imapAccount is a place as imapd sees it, one value per session. The way to
// the provider is that of the login: its parts must fit together.
type imapAccount struct {
	*place
	begun *account
}

var (
	_ imapd.Account = imapAccount{}
	_ imapd.Watcher = imapAccount{}
	_ imapd.Settler = imapAccount{}
)

// Dial implements imapd.Account.
func (a imapAccount) Dial(ctx context.Context) (net.Conn, error) {
	if a.gone.Load() {
		return nil, &imapd.Failure{Code: "UNAVAILABLE", Text: goneText}
	}
	return a.begun.dialIMAP(ctx)
}

// Upstream implements imapd.Account.
func (a imapAccount) Upstream() imapd.Upstream {
	up := a.begun.cfg.IMAP
	tlsConfig := imapTLS(up)
	return imapd.Upstream{
		StartTLS: up.Mode == smtpd.TLSStartTLS, ServerName: tlsConfig.ServerName, TLSConfig: tlsConfig,
		Username: up.Username, Password: up.Password,
	}
}

// OpenMessage implements imapd.Account.
func (a imapAccount) OpenMessage(ctx context.Context, m imapd.SealedMessage) (*imapd.View, error) {
	return a.now.Load().openMessage(ctx, m)
}

// Settle implements imapd.Settler.
func (a imapAccount) Settle() error { return a.now.Load().client.Settle() }

// SealUpload implements imapd.Account.
func (a imapAccount) SealUpload(ctx context.Context, u imapd.Upload) (*imapd.SealedUpload, error) {
	return a.now.Load().sealUpload(ctx, u)
}

// Index implements imapd.Account.
func (a imapAccount) Index() imapd.Index { return a.begun.index }

// ProviderResult implements imapd.Watcher.
func (a imapAccount) ProviderResult(err error) {
	if !a.gone.Load() {
		a.begun.health.imapResult(err)
	}
}

// UploadResult implements imapd.Watcher.
func (a imapAccount) UploadResult(err error) { a.begun.health.uploadResult(err) }

// smtpAccount is a place as smtpd sees it.
type smtpAccount struct{ *place }

var _ smtpd.Account = smtpAccount{}

// Upstream implements smtpd.Account.
func (a smtpAccount) Upstream() smtpd.Upstream {
	now := a.now.Load()
	up := now.cfg.SMTP
	up.Generation, up.Report = now.generation, now.health.smtpResult
	return up
}

// CheckRecipient implements smtpd.Account.
func (a smtpAccount) CheckRecipient(_ context.Context, from, rcpt string) error {
	if a.gone.Load() {
		return goneRefusal()
	}
	return a.now.Load().checkRecipient(from, rcpt)
}

// Seal implements smtpd.Account.
func (a smtpAccount) Seal(ctx context.Context, e smtpd.Envelope, msg smtpd.Message) ([]smtpd.Transaction, error) {
	if a.gone.Load() {
		return nil, goneRefusal()
	}
	now := a.now.Load()
	ts, err := now.seal(ctx, e, msg)
	if err == nil {
		a.ahead.start(func() {
			if err := now.client.Settle(); err != nil {
				now.log.Debug("notes on a message are not stored yet", "err", err) // Sent tries again
			}
		})
	}
	return ts, err
}

func goneRefusal() *smtpd.Refusal {
	return permanent(enhancedPolicy, nil, "Not sent: this account was removed from the gateway.")
}

// Sent implements smtpd.Account. What was noted of the message is durable when it
// returns, before the mail client reads 250. If it is not, because the disk is
// full, it counts until the gateway stops and is stored with whatever is next.
func (a smtpAccount) Sent(_ context.Context, t smtpd.Transaction) {
	if err := a.now.Load().client.Settle(); err != nil {
		a.now.Load().log.Error("what was noted of a sent message is not stored", "transaction", t.ID, "err", err)
	}
	crashpoint.Here("thread-noted")
	a.now.Load().log.Debug("provider took the message", "transaction", t.ID, "sealed", t.Sealed)
}
