package cloudmls

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

const (
	// keepExpired is how long private parts are kept past the end of their
	// KeyPackage: a Welcome may wait that long for a laptop in a drawer.
	keepExpired = 180 * 24 * time.Hour
	// lastResortAge and lastResortUsed are when a last-resort KeyPackage is
	// replaced: it is the one that may be used more than once.
	lastResortAge  = 7 * 24 * time.Hour
	lastResortUsed = 24 * time.Hour
	// poolInterval is how often the pool is counted without a reason.
	poolInterval = 24 * time.Hour
	// maxUpload bounds one upload.
	maxUpload = 100
	// maxKept and keptOctets bound the private parts that are kept: whoever claims
	// KeyPackages and never uses them must not fill the record up, or none could be
	// added. Each refill, and each join, writes it whole.
	maxKept    = 4096
	keptOctets = 4 << 20
)

// fillPool tops up the published KeyPackages of an account, of each cipher suite
// that this client and the key server have. Private parts are in the sealed
// state before the upload starts; an interrupted upload wastes them and loses
// nothing.
//
// Where a rotation was cut off, the key server may have the identity key already
// that is to come, and takes KeyPackages of no other: the account's part of the
// rotation is finished first.
func (c *Client) fillPool(ctx context.Context, self Account) error {
	id, err := c.identity(ctx, self)
	if err == nil && id != nil && id.Next != nil {
		if err := c.advanceIdentity(ctx, self, id.Next.Round); err != nil {
			return fmt.Errorf("finish the rotation of the identity key: %w", err)
		}
		id, err = c.identity(ctx, self)
	}
	if err != nil {
		return err
	}
	if id == nil {
		return fmt.Errorf("%w: %s", ErrNoAccount, self)
	}
	var count keyapi.KeyPackageCount
	err = c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
		count, err = c.o.Server.KeyPackageCount(ctx, token, self)
		return err
	})
	if err != nil {
		return err
	}
	c.notePool(self, count)
	now := c.now()
	have, err := c.reader(ctx, self).keyPackages()
	if err != nil {
		return err
	}
	var fresh []keyPackageEntry
	var uploads []keyapi.KeyPackageUpload
	pools := poolsOf(count)
	var offered []mls.CipherSuite
	for _, pool := range pools {
		offered = append(offered, mls.CipherSuite(pool.Suite))
	}
	for _, pool := range pools {
		need := 0
		if pool.Available < max(1, c.o.KeyPackages/3) {
			need = min(c.o.KeyPackages-pool.Available, maxUpload)
		}
		lastResort := have.needsLastResort(pool, now)
		if need == 0 && !lastResort {
			continue
		}
		made, upload, err := c.makeKeyPackages(self, id, offered, mls.CipherSuite(pool.Suite), need, lastResort)
		if err != nil {
			return err
		}
		fresh, uploads = append(fresh, made...), append(uploads, upload)
	}
	if len(uploads) == 0 {
		return nil
	}
	if err := c.storeKeyPackages(ctx, self, fresh); err != nil {
		return fmt.Errorf("store private parts: %w", err)
	}
	crashpoint.Here("keypackages-stored")
	for _, upload := range uploads {
		err = c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
			count, err = c.o.Server.UploadKeyPackages(ctx, token, self, upload)
			return err
		})
		if err != nil {
			return err
		}
	}
	crashpoint.Here("keypackages-published")
	c.notePool(self, count)
	return c.dropKeyPackages(ctx, self, now)
}

// poolsOf lists the pools that this client fills, in the order of suites, which
// withheld relies on: whoever finds a KeyPackage without post-quantum protection
// finds one with it. A key server that does not count by cipher suite has one.
func poolsOf(count keyapi.KeyPackageCount) []keyapi.SuiteCount {
	if len(count.Suites) == 0 {
		return []keyapi.SuiteCount{{Suite: uint16(suite), Available: count.Available, LastResort: count.LastResort}}
	}
	var pools []keyapi.SuiteCount
	for _, cs := range suites() {
		if i := slices.IndexFunc(count.Suites, func(n keyapi.SuiteCount) bool { return n.Suite == uint16(cs) }); i >= 0 {
			pools = append(pools, count.Suites[i])
		}
	}
	return pools
}

// lookAtPool refills when the pool was not counted for a day, or now if force.
func (c *Client) lookAtPool(ctx context.Context, self Account, force bool) error {
	c.mu.Lock()
	due := force || c.now().Sub(c.health[self].Counted) >= poolInterval
	c.mu.Unlock()
	if !due {
		return nil
	}
	unlock, err := c.locks.lock(ctx, accountLock(self))
	if err != nil {
		return err
	}
	defer unlock()
	return c.fillPool(ctx, self)
}

// needsLastResort tells whether a pool's last-resort KeyPackage is to be
// replaced: it is missing, old, or was used a while ago.
func (r *keyPackagesRecord) needsLastResort(pool keyapi.SuiteCount, now time.Time) bool {
	var newest *keyPackageEntry
	for i := range r.Packages {
		// One of the future was made by a device whose clock was ahead: the key
		// server did not take it.
		p := &r.Packages[i]
		if p.LastResort && p.suite() == pool.Suite && (newest == nil || p.Created > newest.Created) && p.Created <= now.Add(clockSkew).UnixMilli() {
			newest = p
		}
	}
	if newest == nil || !pool.LastResort {
		return true
	}
	return now.Sub(time.UnixMilli(newest.Created)) >= lastResortAge ||
		newest.Used != 0 && now.Sub(time.UnixMilli(newest.Used)) >= lastResortUsed
}

func (e *keyPackageEntry) suite() uint16 {
	if e.Suite == 0 {
		return uint16(suite)
	}
	return e.Suite
}

func (c *Client) makeKeyPackages(self Account, id *identityRecord, offered []mls.CipherSuite, cs mls.CipherSuite, n int, lastResort bool) ([]keyPackageEntry, keyapi.KeyPackageUpload, error) {
	var upload keyapi.KeyPackageUpload
	var fresh []keyPackageEntry
	for range n {
		e, public, err := c.makeKeyPackage(self, id, offered, cs, false)
		if err != nil {
			return nil, upload, err
		}
		fresh, upload.KeyPackages = append(fresh, e), append(upload.KeyPackages, public)
	}
	if lastResort {
		e, public, err := c.makeKeyPackage(self, id, offered, cs, true)
		if err != nil {
			return nil, upload, err
		}
		fresh, upload.LastResort = append(fresh, e), public
	}
	return fresh, upload, nil
}

// makeKeyPackage makes one of a cipher suite. Its capabilities list the suites that
// are offered, and no others that this client knows: see withheld.
func (c *Client) makeKeyPackage(self Account, id *identityRecord, offered []mls.CipherSuite, cs mls.CipherSuite, lastResort bool) (keyPackageEntry, []byte, error) {
	now := c.now()
	life := lifetime(now)
	signature, credential, err := id.certify(self, cs, life)
	if err != nil {
		return keyPackageEntry{}, nil, err
	}
	capabilities := mls.DefaultCapabilities(cs, extensionBinding)
	for _, other := range offered {
		if other != cs {
			capabilities.CipherSuites = append(capabilities.CipherSuites, other)
		}
	}
	kp, secrets, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: cs, Credential: credential, SignatureKey: signature,
		Lifetime: life, Capabilities: &capabilities, LastResort: lastResort,
	})
	if err != nil {
		return keyPackageEntry{}, nil, fmt.Errorf("make KeyPackage: %w", err)
	}
	private, err := secrets.MarshalBinary()
	if err != nil {
		return keyPackageEntry{}, nil, fmt.Errorf("make KeyPackage: %w", err)
	}
	public, err := kp.MarshalBinary()
	if err != nil {
		return keyPackageEntry{}, nil, fmt.Errorf("make KeyPackage: %w", err)
	}
	return keyPackageEntry{
		Ref: []byte(kp.Ref()), Secrets: private, LastResort: lastResort, Suite: uint16(cs),
		NotAfter: int64(life.NotAfter), Created: now.UnixMilli(),
	}, public, nil
}

// storeKeyPackages adds private parts.
func (c *Client) storeKeyPackages(ctx context.Context, self Account, fresh []keyPackageEntry) error {
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		r, err := v.keyPackages()
		if err != nil {
			return err
		}
		r.Packages = append(r.Packages, fresh...)
		r.trim()
		return v.put(keyPackagesKey(self), r)
	})
}

// dropKeyPackages drops private parts that are past all use. It is called after
// an upload at the same time: the key server takes KeyPackages that are valid
// now only, so that its answer says that this device's clock is not ahead. One
// that is a year ahead would drop what others are still given.
func (c *Client) dropKeyPackages(ctx context.Context, self Account, now time.Time) error {
	over := func(p keyPackageEntry) bool { return !now.Before(time.Unix(p.NotAfter, 0).Add(keepExpired)) }
	r, err := c.reader(ctx, self).keyPackages()
	if err != nil || !slices.ContainsFunc(r.Packages, over) {
		return err
	}
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		r, err := v.keyPackages()
		if err != nil {
			return err
		}
		r.Packages = slices.DeleteFunc(r.Packages, over)
		return v.put(keyPackagesKey(self), r)
	})
}

// trim drops the oldest entries beyond maxKept and keptOctets, last-resort ones
// only where the others are not enough: those are used again.
func (r *keyPackagesRecord) trim() {
	number, octets := len(r.Packages), 0
	for i := range r.Packages {
		octets += r.Packages[i].size()
	}
	for _, lastResort := range []bool{false, true} {
		r.Packages = slices.DeleteFunc(r.Packages, func(p keyPackageEntry) bool {
			drop := p.LastResort == lastResort && (number > maxKept || octets > keptOctets)
			if drop {
				number, octets = number-1, octets-p.size()
			}
			return drop
		})
	}
}

// size is an upper bound of the entry's octets in the record.
func (e *keyPackageEntry) size() int {
	const names, numbers = 80, 60
	return names + numbers + base64.StdEncoding.EncodedLen(len(e.Ref)) + base64.StdEncoding.EncodedLen(len(e.Secrets))
}

// use takes the entry with this reference out of the record, or marks it as
// used if it is a last-resort one.
func (r *keyPackagesRecord) use(ref []byte, now time.Time) {
	kept := r.Packages[:0]
	for _, p := range r.Packages {
		if string(p.Ref) == string(ref) {
			if !p.LastResort {
				continue
			}
			if p.Used == 0 {
				p.Used = now.UnixMilli()
			}
		}
		kept = append(kept, p)
	}
	r.Packages = kept
}

func (r *keyPackagesRecord) find(ref string) *keyPackageEntry {
	for i := range r.Packages {
		if string(r.Packages[i].Ref) == ref {
			return &r.Packages[i]
		}
	}
	return nil
}
