package cloudmls

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	// maxPool bounds what is published of one cipher suite, whatever is asked for:
	// the private parts of all of it have to fit into one record (keptOctets).
	maxPool = 200
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
	have, err := c.reader(ctx, self).keyPackages() // before they are counted: see claimable
	if err != nil {
		return err
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
	// What was published before without this account knowing is not added once more.
	for range 2 {
		next, err := c.fillOnce(ctx, self, id, have, count)
		if err != nil || next == nil {
			return err
		}
		count = *next
		c.notePool(self, count)
		if have, err = c.reader(ctx, self).keyPackages(); err != nil {
			return err
		}
	}
	return nil
}

// fillOnce publishes what the pools lack: what was made before and is not known to
// be published first, so that uploads which fail do not fill the record up. It gives
// the pools as they are then; nil: they lack nothing.
func (c *Client) fillOnce(ctx context.Context, self Account, id *identityRecord, have *keyPackagesRecord, count keyapi.KeyPackageCount) (*keyapi.KeyPackageCount, error) {
	now := c.now()
	pools := poolsOf(count)
	var offered []mls.CipherSuite
	for _, pool := range pools {
		offered = append(offered, mls.CipherSuite(pool.Suite))
	}
	want := min(c.o.KeyPackages, maxPool)
	var fresh []keyPackageEntry
	var uploads []keyapi.KeyPackageUpload
	published := map[string]bool{}
	for _, pool := range pools {
		need := 0
		if pool.Available < max(1, want/3) {
			need = min(want-pool.Available, maxUpload)
		}
		lastResort := have.needsLastResort(pool, now)
		if need == 0 && !lastResort {
			continue
		}
		cs := mls.CipherSuite(pool.Suite)
		upload, err := have.again(id, offered, cs, need, lastResort, now)
		if err != nil {
			return nil, err
		}
		made, more, err := c.makeKeyPackages(self, id, offered, cs, need-len(upload.KeyPackages), lastResort && upload.LastResort == nil)
		if err != nil {
			return nil, err
		}
		upload.KeyPackages = append(upload.KeyPackages, more.KeyPackages...)
		if more.LastResort != nil {
			upload.LastResort = more.LastResort
		}
		fresh, uploads = append(fresh, made...), append(uploads, upload)
	}
	if len(uploads) == 0 {
		return nil, nil
	}
	if err := c.storeKeyPackages(ctx, self, fresh, have, count); err != nil {
		return nil, fmt.Errorf("store private parts: %w", err)
	}
	crashpoint.Here("keypackages-stored")
	for _, upload := range uploads {
		err := c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
			count, err = c.o.Server.UploadKeyPackages(ctx, token, self, upload)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := eachRef(&upload, func(ref string) { published[ref] = true }); err != nil {
			return nil, err
		}
	}
	crashpoint.Here("keypackages-published")
	return &count, c.notePublished(ctx, self, published, now)
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
		if p.LastResort && !p.Pending && p.suite() == pool.Suite && (newest == nil || p.Created > newest.Created) && p.Created <= now.Add(clockSkew).UnixMilli() {
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
		NotAfter: int64(life.NotAfter), Created: now.UnixMilli(), Pending: true,
	}, public, nil
}
