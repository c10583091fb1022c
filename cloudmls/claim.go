package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// errMissing: the account has no KeyPackage that could be used.
var errMissing = errors.New("no usable KeyPackage")

// claimNew takes one KeyPackage for each of the people of a new group, all or
// nothing, like claimAll. They are of the post-quantum suite if everybody offers
// it. must says that no other will do. ErrDowngrade: everybody does, by what they
// have signed, and the key server has none of theirs.
func (c *Client) claimNew(ctx context.Context, self Account, accounts []Account, have map[Account]*mls.KeyPackage, must bool) error {
	everybody := true
	if len(accounts) > 1 {
		missing, all, err := c.unreachable(ctx, accounts, have)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return &MissingKeyPackagesError{Accounts: missing}
		}
		everybody = all
	}
	var missing *MissingKeyPackagesError
	if everybody || must {
		err := c.claimAll(ctx, self, accounts, have, suitePQ)
		if !errors.As(err, &missing) {
			return err
		}
		if must {
			return c.noDowngrade(ctx, err)
		}
	}
	if err := c.claimAll(ctx, self, accounts, have, suite); err != nil {
		return err
	}
	return withheld(accounts, have)
}

// noDowngrade says of people who have no KeyPackage of the post-quantum suite, which a
// conversation needs, that it does not go without. Whoever has none of the other suite
// either, or no account, lacks more than that.
func (c *Client) noDowngrade(ctx context.Context, err error) error {
	var missing *MissingKeyPackagesError
	if !errors.As(err, &missing) {
		return err
	}
	for _, a := range missing.Accounts {
		if r, e := c.askAccount(ctx, a); e == nil && !slices.Contains(r.Suites, uint16(suite)) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrDowngrade, err)
}

// withheld tells by ErrDowngrade that people get KeyPackages without post-quantum
// protection although all of them offer others. A client lists the suites that it
// publishes in the capabilities of each KeyPackage, which it signs, and publishes
// the post-quantum ones first; so a key server that has one of the one kind has
// one of the other, or keeps it back.
func withheld(accounts []Account, have map[Account]*mls.KeyPackage) error {
	var lack []Account
	for _, a := range accounts {
		kp := have[a]
		if kp == nil || !slices.Contains(kp.Capabilities().CipherSuites, suitePQ) {
			return nil
		}
		if kp.CipherSuite() != suitePQ {
			lack = append(lack, a)
		}
	}
	if len(lack) == 0 {
		return nil
	}
	return fmt.Errorf("%w, which all of them offer: %w", ErrDowngrade, &MissingKeyPackagesError{Accounts: lack})
}

// claimAll takes one KeyPackage of a cipher suite for each account, all or
// nothing: *MissingKeyPackagesError names every account that has none. What have
// has already is not taken again.
func (c *Client) claimAll(ctx context.Context, self Account, accounts []Account, have map[Account]*mls.KeyPackage, cs mls.CipherSuite) error {
	if err := c.confirmPins(ctx, self, accounts); err != nil {
		return err
	}
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return fmt.Errorf("contacts of %s: %w", self, err)
	}
	var missing []Account
	for _, a := range accounts {
		if have[a] != nil && have[a].CipherSuite() == cs {
			continue
		}
		kp, err := c.claim(ctx, a, cs, contacts)
		switch {
		case errors.Is(err, errMissing):
			missing = append(missing, a)
		case err != nil:
			return err
		default:
			have[a] = kp
		}
	}
	if len(missing) > 0 {
		return &MissingKeyPackagesError{Accounts: missing}
	}
	return nil
}

// unreachable asks who can be reached at all, so that no KeyPackages are used up
// for nothing, and whether all of them offer the post-quantum suite.
func (c *Client) unreachable(ctx context.Context, accounts []Account, have map[Account]*mls.KeyPackage) (missing []Account, all bool, err error) {
	all = true
	for _, a := range accounts {
		if kp := have[a]; kp != nil {
			all = all && kp.CipherSuite() == suitePQ
			continue
		}
		var r keyapi.Reachability
		err := c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
			r, err = c.o.Server.Reachable(ctx, token, a)
			return err
		})
		if err != nil {
			return nil, false, fmt.Errorf("ask for %s: %w", a, err)
		}
		if !r.HasAccount {
			missing = append(missing, a)
		}
		all = all && slices.Contains(r.Suites, uint16(suitePQ))
	}
	return missing, all, nil
}

// claim takes a KeyPackage of one cipher suite and checks it.
func (c *Client) claim(ctx context.Context, a Account, cs mls.CipherSuite, contacts *contactsRecord) (*mls.KeyPackage, error) {
	var answer keyapi.ClaimedKeyPackage
	err := c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
		answer, err = c.o.Server.ClaimKeyPackageOf(ctx, token, a, uint16(cs))
		return err
	})
	if isCode(err, keyapi.CodeNoAccount) || isCode(err, keyapi.CodeNoKeyPackage) || cs != suite && isCode(err, keyapi.CodeInvalid) {
		return nil, errMissing
	}
	if err != nil {
		return nil, fmt.Errorf("claim KeyPackage of %s: %w", a, err)
	}
	kp, err := checkKeyPackage(answer.KeyPackage, a, contacts, c.now())
	if err != nil {
		return nil, err
	}
	if kp.CipherSuite() != cs {
		return nil, errMissing // a key server that knows one suite only
	}
	return kp, nil
}

// checkKeyPackage verifies what the key server handed out for an account: the
// rules of RFC 9420 section 10.1, the leaf certificate, that it speaks for the
// account asked for (F8), and that its identity key is the pinned one. One that
// is merely too old is missing, not bad.
func checkKeyPackage(b []byte, a Account, contacts *contactsRecord, now time.Time) (*mls.KeyPackage, error) {
	bad := func(err error) error { return &BadKeyPackageError{Account: a, Err: err} }
	kp, err := mls.ParseKeyPackage(b)
	if err != nil {
		return nil, bad(err)
	}
	if !slices.Contains(suites(), kp.CipherSuite()) {
		return nil, bad(fmt.Errorf("cipher suite 0x%04x", uint16(kp.CipherSuite())))
	}
	if life := kp.Lifetime(); life.NotAfter < uint64(now.Unix()) {
		return nil, errMissing
	}
	if life := kp.Lifetime(); life.NotAfter-life.NotBefore > uint64(maxLifetime/time.Second) {
		return nil, bad(errors.New("its lifetime is longer than 120 days"))
	}
	if err := kp.Verify(now); err != nil {
		return nil, bad(err)
	}
	cert, err := leafCertificate(kp.Credential(), kp.SignatureKey())
	if err != nil {
		return nil, bad(err)
	}
	if cert.Account() != a {
		return nil, bad(errors.New("it is another account's"))
	}
	if !cert.ValidAt(now) {
		return nil, errMissing
	}
	if cert.Suite != uint16(kp.CipherSuite()) {
		return nil, bad(fmt.Errorf("leaf certificate is for cipher suite 0x%04x", cert.Suite))
	}
	// The key server names the key by handing the KeyPackage out; where the
	// pinned one has signed it, the pin follows with the Commit.
	claimed := []memberEntry{{Platform: a.Platform, ID: a.ID, IdentityKey: cert.IdentityKey, rotations: cert.Rotations}}
	if err := contacts.checkFollowing(claimed); err != nil {
		return nil, err
	}
	return kp, nil
}

// isCode tells whether err is the key server's own problem with this code.
func isCode(err error, code string) bool {
	var p *keyapi.Problem
	return errors.As(err, &p) && p.Code == code
}
