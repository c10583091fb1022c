package keyserver

import (
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// noEnd is after the end of every KeyPackage.
var noEnd = time.Unix(1<<40, 0)

// baseSuite is the one whose pool has the account's own name.
const baseSuite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// poolName names the pool of an account and cipher suite in a Store, which
// takes it for another account: platforms have no "/", so no account has it.
func poolName(a keyapi.Account, cs mls.CipherSuite) keyapi.Account {
	if cs == baseSuite {
		return a
	}
	return keyapi.Account{Platform: fmt.Sprintf("%s/%04x", a.Platform, uint16(cs)), ID: a.ID}
}

// everySuite lists each cipher suite of which a pool may hold anything: those
// that are accepted now, and those that were under another configuration. What
// this program cannot parse was never in one.
func everySuite(configured []mls.CipherSuite) []mls.CipherSuite {
	all := append(mls.CipherSuites(), configured...)
	slices.Sort(all)
	return slices.Compact(all)
}

// emptyPools removes all KeyPackages of an account, the last-resort ones too.
// What was handed out or uploaded once is remembered still.
func (s *Server) emptyPools(w Writer, of keyapi.Account) error {
	for _, cs := range everySuite(s.CipherSuites) {
		a := poolName(of, cs)
		if err := w.DropEndedKeyPackages(a, noEnd); err != nil {
			return err
		}
		have, err := w.KeyPackageCount(a, time.Unix(1, 0))
		if err != nil {
			return err
		}
		if !have.LastResort {
			continue
		}
		if err := w.PutLastResort(a, &KeyPackage{Ref: []byte{}, NotAfter: time.Unix(0, 0), Data: []byte{}}); err != nil {
			return err // one that has ended is none
		}
	}
	return nil
}

// countPools counts an account's KeyPackages of each accepted cipher suite.
func (s *Server) countPools(r Reader, a keyapi.Account) (keyapi.KeyPackageCount, error) {
	var all keyapi.KeyPackageCount
	for _, cs := range s.CipherSuites {
		n, err := r.KeyPackageCount(poolName(a, cs), s.Now())
		if err != nil {
			return all, err
		}
		if cs == baseSuite {
			all.Available, all.LastResort = n.Available, n.LastResort
		}
		all.Suites = append(all.Suites, keyapi.SuiteCount{Suite: uint16(cs), Available: n.Available, LastResort: n.LastResort})
	}
	return all, nil
}

// suitesOf lists the cipher suites of which the account has KeyPackages.
func (s *Server) suitesOf(r Reader, a keyapi.Account) ([]uint16, error) {
	count, err := s.countPools(r, a)
	if err != nil {
		return nil, err
	}
	var list []uint16
	for _, n := range count.Suites {
		if n.Available > 0 || n.LastResort {
			list = append(list, n.Suite)
		}
	}
	return list, nil
}

// claimable gives the cipher suite that a claim is about.
func (s *Server) claimable(suite uint16) (mls.CipherSuite, error) {
	if suite == 0 {
		return baseSuite, nil
	}
	if !slices.Contains(s.CipherSuites, mls.CipherSuite(suite)) {
		return 0, invalid("cipher suite is not accepted here")
	}
	return mls.CipherSuite(suite), nil
}
