package cloudmls

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// Private parts are kept until a Welcome has used them, or until none can come any
// more. Whoever claims KeyPackages and never uses them must not fill the record up,
// or none could be added: the oldest that were claimed make room. One that somebody
// may still be given never does, for the Welcome could not be opened. The key server
// hands out those of one cipher suite in the order in which they were uploaded, so
// that what is left of them there is the newest.

const (
	// maxKept and keptOctets bound the private parts that are kept. Each refill, and
	// each join, writes the record whole.
	maxKept    = 4096
	keptOctets = 4 << 20
	// poolSlack is how many more than the key server has left are not dropped:
	// devices that upload at the same time do so in another order than they store.
	poolSlack = 100
	// keptLastResort is how many last-resort ones of a cipher suite are not dropped.
	keptLastResort = 16
)

var errKeyPackagesFull = errors.New("the record of KeyPackages is full of such as others may still be given; no more are made before some of them end")

// storeKeyPackages adds private parts. have and count are the record and the pools
// as they were looked at before.
func (c *Client) storeKeyPackages(ctx context.Context, self Account, fresh []keyPackageEntry, have *keyPackagesRecord, count keyapi.KeyPackageCount) error {
	if len(fresh) == 0 {
		return nil
	}
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		r, err := v.keyPackages()
		if err != nil {
			return err
		}
		r.Packages = append(r.Packages, fresh...)
		if !r.trim(r.claimable(have, count)) {
			return errKeyPackagesFull
		}
		return v.put(keyPackagesKey(self), r)
	})
}

// notePublished notes what the key server has taken, and drops private parts that
// are past all use: the key server takes KeyPackages that are valid now only, so that
// its answer says that this device's clock is not ahead. One that is a year ahead
// would drop what others are still given.
func (c *Client) notePublished(ctx context.Context, self Account, published map[string]bool, now time.Time) error {
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		r, err := v.keyPackages()
		if err != nil {
			return err
		}
		for i := range r.Packages {
			p := &r.Packages[i]
			p.Pending = p.Pending && !published[string(p.Ref)]
		}
		r.Packages = slices.DeleteFunc(r.Packages, func(p keyPackageEntry) bool {
			return !now.Before(time.Unix(p.NotAfter, 0).Add(keepExpired))
		})
		return v.put(keyPackagesKey(self), r)
	})
}

// eachRef gives the references of what is uploaded.
func eachRef(u *keyapi.KeyPackageUpload, fn func(ref string)) error {
	for _, b := range append(slices.Clip(u.KeyPackages), u.LastResort) {
		if len(b) == 0 {
			continue
		}
		kp, err := mls.ParseKeyPackage(b)
		if err != nil {
			return fmt.Errorf("KeyPackage: %w", err)
		}
		fn(string(kp.Ref()))
	}
	return nil
}

// again gives what was made before for a pool, by this identity key and for the
// suites that are offered, and is not known to be published. Uploading it twice is
// harmless: the key server skips what it had.
func (r *keyPackagesRecord) again(id *identityRecord, offered []mls.CipherSuite, cs mls.CipherSuite, n int, lastResort bool, now time.Time) (u keyapi.KeyPackageUpload, err error) {
	for i := range r.Packages {
		p := &r.Packages[i]
		fits := p.Pending && p.suite() == uint16(cs)
		if !fits || p.LastResort && (!lastResort || u.LastResort != nil) || !p.LastResort && len(u.KeyPackages) >= n {
			continue
		}
		secrets, err := mls.ParseKeyPackageSecrets(p.Secrets)
		if err != nil {
			return u, fmt.Errorf("KeyPackage secrets: %w", err)
		}
		kp := secrets.KeyPackage()
		if good, err := id.mayPublish(kp, offered, now); err != nil || !good {
			if err != nil {
				return u, err
			}
			continue
		}
		b, err := kp.MarshalBinary()
		if err != nil {
			return u, fmt.Errorf("KeyPackage: %w", err)
		}
		if p.LastResort {
			u.LastResort = b
		} else {
			u.KeyPackages = append(u.KeyPackages, b)
		}
	}
	return u, nil
}

// mayPublish tells whether a KeyPackage that was made before is as one that would be
// made now, and has two thirds of its time left.
func (r *identityRecord) mayPublish(kp *mls.KeyPackage, offered []mls.CipherSuite, now time.Time) (bool, error) {
	cert, err := leafCertificate(kp.Credential(), kp.SignatureKey())
	if err != nil {
		return false, fmt.Errorf("KeyPackage: %w", err)
	}
	life := kp.Lifetime()
	begins, ends := time.Unix(int64(life.NotBefore), 0), time.Unix(int64(life.NotAfter), 0)
	listed := kp.Capabilities().CipherSuites
	other := slices.ContainsFunc(suites(), func(cs mls.CipherSuite) bool { return slices.Contains(listed, cs) != slices.Contains(offered, cs) })
	return r.is(cert.IdentityKey) && !other && !now.Before(begins) && now.Add(keyPackageLifetime*2/3).Before(ends), nil
}

// claimable gives, by cipher suite, how many of the newest single-use entries the
// key server may still hand out: as many as it had when they were counted, and those
// that were not known yet when have was read, for they may be uploaded since.
func (r *keyPackagesRecord) claimable(have *keyPackagesRecord, count keyapi.KeyPackageCount) map[uint16]int {
	known := make(map[string]bool, len(have.Packages))
	for i := range have.Packages {
		known[string(have.Packages[i].Ref)] = true
	}
	n := map[uint16]int{}
	for _, pool := range poolsOf(count) {
		n[pool.Suite] = max(0, pool.Available)
	}
	for i := range r.Packages {
		if p := &r.Packages[i]; !p.LastResort && !known[string(p.Ref)] {
			n[p.suite()]++
		}
	}
	return n
}

// trim drops the oldest entries beyond maxKept and keptOctets of those that nobody is
// given any more, last-resort ones only where the others are not enough: those are
// used again. It tells whether the record is within the bounds then.
func (r *keyPackagesRecord) trim(claimable map[uint16]int) bool {
	number, octets := len(r.Packages), 0
	drop := make([]bool, number)
	for i := range r.Packages {
		octets += r.Packages[i].size()
	}
	full := func() bool { return number > maxKept || octets > keptOctets }
	for _, lastResort := range []bool{false, true} {
		for _, i := range r.spare(claimable, lastResort) {
			if !full() {
				break
			}
			number, octets, drop[i] = number-1, octets-r.Packages[i].size(), true
		}
	}
	kept := r.Packages[:0]
	for i, p := range r.Packages {
		if !drop[i] {
			kept = append(kept, p)
		}
	}
	r.Packages = kept
	return !full()
}

// spare gives the places of entries that may be dropped, oldest first: not the newest
// of a cipher suite that may be claimed, and none that is not known to be published,
// which may be among these.
func (r *keyPackagesRecord) spare(claimable map[uint16]int, lastResort bool) []int {
	newer := map[uint16]int{}
	var places []int
	for i, p := range slices.Backward(r.Packages) {
		if p.LastResort != lastResort || p.Pending {
			continue
		}
		keep := keptLastResort
		if !lastResort {
			keep = claimable[p.suite()] + poolSlack
		}
		if newer[p.suite()]++; newer[p.suite()] > keep {
			places = append(places, i)
		}
	}
	slices.Reverse(places)
	return places
}

// size is an upper bound of the entry's octets in the record.
func (e *keyPackageEntry) size() int {
	const names, numbers = 95, 60
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
