package boltstore

import (
	"bytes"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (t *tx) Account(a keyapi.Account) (*keyserver.Account, error) {
	return decode(t.bucket(bucketAccounts).Get(accountKey(a)), decodeAccount)
}

func (t *tx) Accounts(u keyserver.UserID) ([]keyserver.Account, error) {
	var all []keyserver.Account
	err := withPrefix(t.bucket(bucketUserAccounts), u[:], func(key, _ []byte) (bool, error) {
		a, err := decode(t.bucket(bucketAccounts).Get(key), decodeAccount)
		if err == nil && a == nil {
			err = fmt.Errorf("store is damaged: account listed but not there")
		}
		if err == nil {
			all = append(all, *a)
		}
		return false, err
	})
	return all, err
}

func (t *tx) PutAccount(a *keyserver.Account) error {
	key := accountKey(a.Account)
	if err := t.bucket(bucketUserAccounts).Put(join(a.User[:], key), nil); err != nil {
		return err
	}
	record, err := encodeAccount(a)
	if err != nil {
		return err
	}
	return t.bucket(bucketAccounts).Put(key, record)
}

func (t *tx) Challenge(id keyserver.ChallengeID) (*keyserver.Challenge, error) {
	return get[keyserver.Challenge](t.bucket(bucketChallenges), id[:])
}

func (t *tx) PutChallenge(c *keyserver.Challenge) error {
	if err := t.expireAt(c.Expires, expiresChallenge, c.ID[:]); err != nil {
		return err
	}
	return put(t.bucket(bucketChallenges), c.ID[:], c)
}

func (t *tx) DeleteChallenge(id keyserver.ChallengeID) error {
	return t.bucket(bucketChallenges).Delete(id[:])
}

func (t *tx) KeyPackageCount(a keyapi.Account, now time.Time) (keyapi.KeyPackageCount, error) {
	var n keyapi.KeyPackageCount
	err := withPrefix(t.bucket(bucketPool), accountKey(a), func(_, v []byte) (bool, error) {
		kp, err := parseKeyPackage(v)
		if err == nil && !kp.NotAfter.Before(now) {
			n.Available++
		}
		return false, err
	})
	if err != nil {
		return n, err
	}
	if v := t.bucket(bucketLastResort).Get(accountKey(a)); v != nil {
		kp, err := parseKeyPackage(v)
		if err != nil {
			return n, err
		}
		n.LastResort = !kp.NotAfter.Before(now)
	}
	return n, nil
}

func (t *tx) KeyPackageKnown(a keyapi.Account, ref []byte) (bool, error) {
	return t.bucket(bucketReferences).Get(join(accountKey(a), ref)) != nil, nil
}

func (t *tx) AddKeyPackage(a keyapi.Account, kp *keyserver.KeyPackage) error {
	key := accountKey(a)
	ref := join(key, kp.Ref)
	if err := t.bucket(bucketReferences).Put(ref, unixKey(kp.NotAfter)); err != nil {
		return err
	}
	if err := t.expireAt(kp.NotAfter, expiresReference, ref); err != nil {
		return err
	}
	pool := t.bucket(bucketPool)
	n, err := pool.NextSequence()
	if err != nil {
		return err
	}
	return pool.Put(join(key, num(n)), formatKeyPackage(kp))
}

func (t *tx) PutLastResort(a keyapi.Account, kp *keyserver.KeyPackage) error {
	return t.bucket(bucketLastResort).Put(accountKey(a), formatKeyPackage(kp))
}

func (t *tx) DropEndedKeyPackages(a keyapi.Account, now time.Time) error {
	key := accountKey(a)
	pool := t.bucket(bucketPool)
	var ended [][]byte
	err := withPrefix(pool, key, func(n, v []byte) (bool, error) {
		kp, err := parseKeyPackage(v)
		if err == nil && kp.NotAfter.Before(now) {
			ended = append(ended, join(key, n))
		}
		return false, err
	})
	if err != nil {
		return err
	}
	for _, k := range ended {
		if err := pool.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) TakeKeyPackage(a keyapi.Account, now time.Time) (*keyserver.KeyPackage, bool, error) {
	key := accountKey(a)
	pool := t.bucket(bucketPool)
	var found *keyserver.KeyPackage
	type entry struct{ key, value []byte }
	var spent []entry // taken or ended
	err := withPrefix(pool, key, func(n, v []byte) (bool, error) {
		kp, err := parseKeyPackage(v)
		if err != nil {
			return false, err
		}
		spent = append(spent, entry{join(key, n), v})
		if kp.NotAfter.Before(now) {
			return false, nil
		}
		found = kp
		return true, nil
	})
	if err != nil {
		return nil, false, err
	}
	for _, e := range spent {
		if err := pool.remove(e.key, e.value); err != nil {
			return nil, false, err
		}
	}
	if found != nil {
		return found, false, nil
	}
	v := t.bucket(bucketLastResort).Get(key)
	if v == nil {
		return nil, false, nil
	}
	kp, err := parseKeyPackage(v)
	if err != nil || kp.NotAfter.Before(now) {
		return nil, false, err
	}
	return kp, true, nil
}

// A KeyPackage is stored as its end, the length of its reference, the
// reference, the octets.
func formatKeyPackage(kp *keyserver.KeyPackage) []byte {
	return join(unixKey(kp.NotAfter), []byte{byte(len(kp.Ref))}, kp.Ref, kp.Data)
}

func parseKeyPackage(v []byte) (*keyserver.KeyPackage, error) {
	if len(v) < 9 || len(v) < 9+int(v[8]) {
		return nil, fmt.Errorf("store is damaged: KeyPackage of %d octets", len(v))
	}
	end, err := readNum(v[:8])
	if err != nil {
		return nil, err
	}
	rest := bytes.Clone(v[9:])
	n := int(v[8])
	return &keyserver.KeyPackage{NotAfter: time.Unix(int64(end), 0), Ref: rest[:n:n], Data: rest[n:]}, nil
}
