package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// ErrStopped: the gateway has ended, or is about to.
var ErrStopped = errors.New("gateway: it has stopped")

// ErrNotServed: no account of the gateway has this address.
var ErrNotServed = errors.New("gateway: no such account")

// QueuedError refuses to remove an account whose messages still wait to be
// sent: without its settings they could not be.
type QueuedError struct {
	Address string
	Entries int
}

// Error names the account and what to do.
func (e *QueuedError) Error() string {
	return fmt.Sprintf("gateway: %d messages of %s still wait to be sent; remove the account once they are out", e.Entries, e.Address)
}

// ReloadResult is what a Reload changed, by canonical address, sorted.
type ReloadResult struct {
	Added, Removed []string
	// Kept are the others; they have the new settings.
	Kept []string
}

// Reload puts other accounts in place of those that the gateway has. An error
// changes nothing. Sessions of accounts that stay go on: what they open and
// send from here on follows the new settings, and so do new connections to the
// provider. A new account's background loop starts. The sessions of a removed
// one are ended with BYE and 421, a submission that has reached the provider
// first; while mail of it waits in the outbox, removing it is a *QueuedError.
// An account stays with the Client that it had.
//
// The rest of Options, listeners included, stays as it is.
func (g *Gateway) Reload(configs []AccountConfig) (ReloadResult, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if len(configs) == 0 {
		return ReloadResult{}, errors.New("gateway: Accounts is empty")
	}
	accounts, err := g.checkAccounts(configs)
	if err != nil {
		return ReloadResult{}, err
	}
	queues := g.queues()
	g.mu.Lock()
	if err := g.mayReload(accounts, queues); err != nil {
		g.mu.Unlock()
		return ReloadResult{}, err
	}
	result := g.exchange(accounts)
	var removed []*place
	for _, id := range result.Removed {
		removed = append(removed, g.leaving[id])
	}
	g.reloads++
	g.mu.Unlock()
	for _, p := range removed {
		g.imap.Disconnect(func(a imapd.Account) bool { return placeOf(a) == p }, goneText)
		g.smtp.Disconnect(func(a smtpd.Account) bool { return placeOf(a) == p }, goneText)
	}
	g.o.Logger.Info("accounts reloaded", "added", len(result.Added), "removed", len(result.Removed), "kept", len(result.Kept))
	return result, nil
}

// mayReload says why the accounts cannot be those of the gateway; g.mu is held.
func (g *Gateway) mayReload(accounts map[string]*account, queues map[string]QueueStatus) error {
	if g.stopped {
		return ErrStopped
	}
	for id, p := range g.places {
		next := accounts[id]
		switch {
		case next == nil && queues[id].Entries > 0:
			return &QueuedError{Address: id, Entries: queues[id].Entries}
		case next != nil && next.client != p.now.Load().client:
			return fmt.Errorf("gateway: account %s came with another Client; that takes a restart", id)
		}
	}
	return nil
}

// exchange makes the accounts those of the gateway; g.mu is held.
func (g *Gateway) exchange(accounts map[string]*account) (r ReloadResult) {
	for id, p := range g.places {
		if accounts[id] != nil {
			continue
		}
		p.gone.Store(true) // before its sessions are ended: none can begin after that
		if p.stop != nil {
			p.stop()
		}
		delete(g.places, id)
		g.leaving[id] = p
		r.Removed = append(r.Removed, id)
	}
	for id, a := range accounts {
		if p := g.places[id]; p != nil {
			p.change(a)
			r.Kept = append(r.Kept, id)
			continue
		}
		p := newPlace(a, g.spoolDir, &g.ahead)
		delete(g.leaving, id)
		g.places[id] = p
		g.startLoop(p)
		r.Added = append(r.Added, id)
	}
	slices.Sort(r.Added)
	slices.Sort(r.Removed)
	slices.Sort(r.Kept)
	return r
}

// startLoops begins the background loops of all accounts.
func (g *Gateway) startLoops(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running, g.started = ctx, g.o.Now()
	for _, p := range g.places {
		g.startLoop(p)
	}
}

// startLoop begins one; g.mu is held. Before Run it does nothing.
func (g *Gateway) startLoop(p *place) {
	if g.running == nil {
		return
	}
	ctx, cancel := context.WithCancel(g.running)
	p.stop = cancel
	syncing := p.now.Load().syncing
	g.loops.Go(func() {
		defer cancel()
		syncing.run(ctx)
	})
}

// stopLoops waits for the loops, whose context has ended.
func (g *Gateway) stopLoops() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.loops.Wait()
}

// Sync brings one account up to date with the key server now, beside its
// background loop. The address may be in any spelling.
func (g *Gateway) Sync(ctx context.Context, address string) (cloudmls.SyncResult, error) {
	p := g.lookUp(address)
	if p == nil {
		return cloudmls.SyncResult{}, ErrNotServed
	}
	return p.now.Load().syncing.sync(ctx)
}
