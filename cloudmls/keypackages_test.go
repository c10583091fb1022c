package cloudmls

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// claimOne takes a KeyPackage of somebody.
func (d *device) claimOne(of Account, cs mls.CipherSuite) *mls.KeyPackage {
	d.t.Helper()
	d.w.clock.advance(7 * time.Minute) // so many are given at once
	var kp *mls.KeyPackage
	err := d.Client.store.Authorized(d.t.Context(), func(ctx context.Context, token string) error {
		claimed, err := d.o.Server.ClaimKeyPackageOf(ctx, token, of, uint16(cs))
		if err != nil {
			return err
		}
		kp, err = mls.ParseKeyPackage(claimed.KeyPackage)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return kp
}

func (d *device) packages() *keyPackagesRecord {
	d.t.Helper()
	if _, err := d.Client.store.Refresh(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	r, err := d.reader(d.t.Context(), d.self).keyPackages()
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// pool counts what is published of a cipher suite.
func (d *device) pool(cs mls.CipherSuite) (n int) {
	d.t.Helper()
	err := d.Client.store.Authorized(d.t.Context(), func(ctx context.Context, token string) error {
		count, err := d.o.Server.KeyPackageCount(ctx, token, d.self)
		for _, p := range count.Suites {
			if p.Suite == uint16(cs) {
				n = p.Available
			}
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// TestKeyPackagesOfTheOtherSuiteStay: somebody claims the KeyPackages of one cipher
// suite all the time and uses none, until there is no room for more private parts.
// Those of the other suite, which are the oldest and which nobody has claimed, stay:
// a Welcome for one of them opens.
func TestKeyPackagesOfTheOtherSuiteStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	err := alice.update(t.Context(), alice.self, func(_ *state.Tx, v *view) error {
		r, err := v.keyPackages()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Packages, func(p keyPackageEntry) bool { return p.suite() == uint16(suitePQ) && !p.LastResort })
		claimed := r.Packages[i]
		for n := range uint64(keptOctets/claimed.size()) - 20 {
			claimed.Ref = binary.BigEndian.AppendUint64(nil, n)
			r.Packages = append(r.Packages, claimed)
		}
		return v.put(keyPackagesKey(alice.self), r)
	})
	if err != nil {
		t.Fatal(err)
	}
	before := alice.packages()
	for range defaultKeyPackages {
		bob.claimOne(alice.self, suitePQ)
	}
	if err := alice.lookAtPool(t.Context(), alice.self, true); err != nil {
		t.Fatal(err)
	}
	now := alice.packages()
	if alice.pool(suitePQ) != defaultKeyPackages || len(now.Packages) >= len(before.Packages)+defaultKeyPackages {
		t.Fatalf("%d private parts, %d before: nothing had to make room", len(now.Packages), len(before.Packages))
	}
	for _, cs := range suites() {
		for range defaultKeyPackages {
			if kp := bob.claimOne(alice.self, cs); kp.IsLastResort() || now.find(string(kp.Ref())) == nil {
				t.Fatalf("suite %#x: somebody was given a KeyPackage whose private part is gone", uint16(cs))
			}
		}
	}
}

// TestFailingUploadsAddNothing: as long as uploads fail, or their answers are lost,
// the same KeyPackages are published again; what others are given in the meantime
// has its private part.
func TestFailingUploadsAddNothing(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"not taken", "answer lost", "refused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			before := len(alice.packages().Packages)
			drain := func() {
				t.Helper()
				for _, cs := range suites() {
					for range defaultKeyPackages {
						if kp := bob.claimOne(alice.self, cs); alice.packages().find(string(kp.Ref())) == nil {
							t.Fatalf("somebody was given a KeyPackage whose private part is gone")
						}
					}
				}
			}
			drain()
			upload := func(e *exchange) bool {
				return e.is("POST", "/v1/keypackages/email/alice") && !strings.HasSuffix(e.request.URL.Path, "/claim")
			}
			sent := map[string]bool{}
			fault := func(e *exchange) {
				if !upload(e) {
					return
				}
				for _, b := range decodeJSON[keyapi.KeyPackageUpload](t, e.sent).KeyPackages {
					sent[string(b)] = true
				}
				if e.status = 0; how == "refused" {
					e.status, e.header = 507, "application/problem+json"
					e.answered = encodeJSON(t, &keyapi.Problem{Status: 507, Code: keyapi.CodeQuota})
				}
			}
			if how == "answer lost" {
				w.wire.set(nil, fault)
			} else {
				w.wire.set(func(e *exchange) bool { fault(e); return upload(e) }, nil)
			}
			failed := 0
			for range 4 {
				if err := alice.lookAtPool(t.Context(), alice.self, true); err != nil {
					failed++
				}
				alice.crash()
			}
			if want := map[string]int{"not taken": 4, "answer lost": 2, "refused": 4}[how]; failed != want { // one for each pool
				t.Fatalf("it failed %d times", failed)
			}
			w.wire.set(nil, nil)
			if n := len(alice.packages().Packages); n > before+2*defaultKeyPackages+2 {
				t.Errorf("%d private parts, %d before uploads failed", n, before)
			}
			if len(sent) == 0 || len(sent) > 2*defaultKeyPackages {
				t.Errorf("%d KeyPackages were uploaded", len(sent))
			}
			if err := alice.lookAtPool(t.Context(), alice.self, true); err != nil {
				t.Fatal(err)
			}
			for _, cs := range suites() {
				if n := alice.pool(cs); n != defaultKeyPackages {
					t.Errorf("suite %#x: %d are published", uint16(cs), n)
				}
			}
			drain()
			if err := alice.lookAtPool(t.Context(), alice.self, true); err != nil {
				t.Fatal(err)
			}
			for _, cs := range suites() { // whatever was thought to be published or not
				if n := alice.pool(cs); n != defaultKeyPackages {
					t.Errorf("suite %#x: %d are published after all were claimed", uint16(cs), n)
				}
			}
			for _, p := range alice.packages().Packages {
				if p.Pending {
					t.Error("one is not known to be published")
				}
			}
		})
	}
}

// TestKeyPackagesOfBeforeAreNotPublished: what was made before and never published
// is published later only if it is as one that would be made now.
func TestKeyPackagesOfBeforeAreNotPublished(t *testing.T) {
	t.Parallel()
	alice := newWorld(t).user("alice")
	id, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	other := *id
	other.Seed = bytes.Repeat([]byte{7}, ed25519.SeedSize)
	now := alice.now()
	for name, c := range map[string]struct {
		id      *identityRecord
		offered []mls.CipherSuite
		cs      mls.CipherSuite
		at      time.Time
		pending bool
		want    int
	}{
		"as now":                    {id, suites(), suite, now, true, 1},
		"with two thirds left":      {id, suites(), suite, now.Add(29 * day), true, 1},
		"with less":                 {id, suites(), suite, now.Add(31 * day), true, 0},
		"published":                 {id, suites(), suite, now, false, 0},
		"of another identity key":   {&other, suites(), suite, now, true, 0},
		"by a clock that was ahead": {id, suites(), suite, now.Add(-2 * time.Hour), true, 0},
		"for another pool":          {id, suites(), suitePQ, now, true, 0},
		"when fewer suites are":     {id, []mls.CipherSuite{suite}, suite, now, true, 0},
	} {
		for _, lastResort := range []bool{false, true} {
			e, public, err := alice.makeKeyPackage(alice.self, id, suites(), suite, lastResort)
			if err != nil {
				t.Fatal(err)
			}
			e.Pending = c.pending
			r := &keyPackagesRecord{Packages: []keyPackageEntry{e, e, e}}
			n := 1
			if lastResort {
				n = 0
			}
			u, err := r.again(c.id, c.offered, c.cs, n, lastResort, c.at)
			got := len(u.KeyPackages)
			if lastResort && u.LastResort != nil {
				got++
			}
			if err != nil || got != c.want || got == 1 && !bytes.Equal(slices.Concat(append(u.KeyPackages, u.LastResort)...), public) {
				t.Errorf("%s, last resort %v: %d are published, %v", name, lastResort, got, err)
			}
		}
	}
}

// TestKeyPackagesHaveRoom: the largest pools, of an account with the longest name and
// the most rotations, fit with all that must not be dropped.
func TestKeyPackagesHaveRoom(t *testing.T) {
	t.Parallel()
	alice := newWorld(t).user("alice")
	id, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	self := Account{Platform: strings.Repeat("p", 64), ID: strings.Repeat("x", 1024)}
	for i := range keyapi.MaxRotations {
		seed := bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize)
		r, err := keyapi.NewRotation(self, id.private(), ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		id.Rotations, id.Seed = append(id.Rotations, r), seed
	}
	const (
		left     = maxPool / 3 // published, when more are made
		made     = maxUpload   // then, and by another device at the same time
		unsettle = maxUpload   // not known to be published
	)
	total := 0
	for _, cs := range suites() {
		for _, lastResort := range []bool{false, true} {
			e, _, err := alice.makeKeyPackage(self, id, suites(), cs, lastResort)
			if err != nil {
				t.Fatal(err)
			}
			n := left + made + unsettle + poolSlack
			if lastResort {
				n = keptLastResort + 1
			}
			b, err := encodeRecord(&keyPackagesRecord{Version: recordVersion, Packages: []keyPackageEntry{e}})
			if err != nil || len(b) > e.size()+50 {
				t.Fatalf("an entry of %d octets is said to have %d", len(b), e.size())
			}
			total += n * e.size()
		}
	}
	if total > keptOctets {
		t.Errorf("%d octets must not be dropped, and there is room for %d", total, keptOctets)
	}
}

// TestKeyPackagesFull: where the key server says that all of a full record may be
// claimed still, nothing is dropped, and no more are made.
func TestKeyPackagesFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	before := alice.packages()
	e := before.Packages[0]
	fresh := make([]keyPackageEntry, maxKept)
	for i := range fresh {
		fresh[i] = e
		fresh[i].Ref = binary.BigEndian.AppendUint64(nil, uint64(i))
	}
	count := keyapi.KeyPackageCount{Suites: []keyapi.SuiteCount{{Suite: e.suite(), Available: 1 << 30}}}
	if err := alice.storeKeyPackages(t.Context(), alice.self, fresh, before, count); !errors.Is(err, errKeyPackagesFull) {
		t.Errorf("a full record: %v", err)
	}
	if n := len(alice.packages().Packages); n != len(before.Packages) {
		t.Errorf("%d private parts, %d before", n, len(before.Packages))
	}
}

// TestClaimableKeyPackagesStay plays random histories of devices that fill pools, with
// what they saw some time ago, of uploads that come late or never, of claims and of
// joins, in a record that has room for little more than it must keep: whatever the
// key server has left, its private part is there.
func TestClaimableKeyPackagesStay(t *testing.T) {
	t.Parallel()
	const size, want = 3_000, 150 // octets of one entry's secrets; of each pool
	secrets := make([]byte, size)
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		record := &keyPackagesRecord{}
		pools := map[uint16][][]byte{uint16(suite): nil, uint16(suitePQ): nil} // at the key server, the next one first
		known := map[string]bool{}
		var late []keyPackageEntry
		var seen []keyPackagesRecord
		next, dropped := uint64(0), 0
		upload := func(e keyPackageEntry) {
			if !known[string(e.Ref)] {
				pools[e.Suite], known[string(e.Ref)] = append(pools[e.Suite], e.Ref), true
			}
			if p := record.find(string(e.Ref)); p != nil {
				p.Pending = false
			}
		}
		for step := range 400 {
			cs := uint16(suite)
			if random.IntN(8) > 0 { // one is claimed much more than the other
				cs = uint16(suitePQ)
			}
			switch pool := pools[cs]; {
			case random.IntN(3) > 0:
				if len(pool) > 0 {
					n := 1 + random.IntN(len(pool))
					pools[cs] = pool[n:]
					if random.IntN(8) == 0 {
						record.use(pool[0], time.UnixMilli(1))
					}
				}
			case len(late) > 0 && random.IntN(2) == 0:
				for _, e := range late {
					upload(e)
				}
				late = nil
			case len(pool) < want/3:
				have := record
				if len(seen) > 0 && random.IntN(2) == 0 {
					have = &seen[max(0, len(seen)-1-random.IntN(3))]
				}
				count := keyapi.KeyPackageCount{}
				for s, p := range pools {
					count.Suites = append(count.Suites, keyapi.SuiteCount{Suite: s, Available: len(p)})
				}
				var batch []keyPackageEntry
				for _, e := range record.Packages {
					if e.Pending && e.Suite == cs && len(batch) < want {
						batch = append(batch, e)
					}
				}
				before := len(record.Packages)
				grown := &keyPackagesRecord{Packages: slices.Clone(record.Packages)}
				added := 0
				for ; len(batch) < want-len(pool); added++ {
					e := keyPackageEntry{Ref: binary.BigEndian.AppendUint64(nil, next), Secrets: secrets, Suite: cs, Pending: true}
					next++
					batch, grown.Packages = append(batch, e), append(grown.Packages, e)
				}
				if !grown.trim(grown.claimable(have, count)) {
					t.Fatalf("seed %d, step %d: there is no room", seed, step)
				}
				dropped += before + added - len(grown.Packages)
				record = grown
				switch random.IntN(4) {
				case 0:
					late = append(late, batch...)
				case 1: // never
				default:
					for _, e := range batch {
						upload(e)
					}
				}
			}
			seen = append(seen, keyPackagesRecord{Packages: slices.Clone(record.Packages)})
			for s, pool := range pools {
				for _, ref := range pool {
					if record.find(string(ref)) == nil {
						t.Fatalf("seed %d, step %d: the private part of one of suite %#x that may be claimed is gone", seed, step, s)
					}
				}
			}
		}
		if dropped == 0 {
			t.Errorf("seed %d: nothing had to make room", seed)
		}
	}
}
