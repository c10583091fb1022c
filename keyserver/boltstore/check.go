package boltstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
)

// maxFindings bounds what Check lists of one sort.
const maxFindings = 20

// Check reads everything, on one snapshot and while the store serves, and names
// what is wrong: pages of the file, records that cannot be read, octets that are
// missing, left over or altered, counts that do not fit. Findings hold ids, for
// the operator's eyes. No findings: the store is sound.
func (s *Store) Check(ctx context.Context) (findings []string, err error) {
	err = s.db.View(func(btx *bolt.Tx) error {
		findings, err = check(ctx, btx)
		return err
	})
	return findings, err
}

func check(ctx context.Context, btx *bolt.Tx) ([]string, error) {
	c := &checker{tx: &tx{Tx: btx}, ctx: ctx, found: map[string]int{}, uses: map[uint64]uint64{}}
	for err := range btx.Check() {
		c.find("pages", "%v", err)
	}
	if len(c.findings) > 0 { // what follows would read nonsense
		return c.findings, ctx.Err()
	}
	for _, step := range []func() error{c.users, c.sessions, c.accounts, c.objects, c.conversations, c.inboxes, c.blobs} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.findings, nil
}

type checker struct {
	tx       *tx
	ctx      context.Context
	findings []string
	found    map[string]int
	uses     map[uint64]uint64 // blob → how often something refers to it
}

func (c *checker) find(sort, format string, args ...any) {
	switch c.found[sort]++; {
	case c.found[sort] < maxFindings:
		c.findings = append(c.findings, sort+": "+fmt.Sprintf(format, args...))
	case c.found[sort] == maxFindings:
		c.findings = append(c.findings, sort+": there are more")
	}
}

// each calls fn for all of a bucket; errors of fn are findings.
func (c *checker) each(bucket string, fn func(k, v []byte) error) error {
	return c.tx.bucket(bucket).ForEach(func(k, v []byte) error {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := fn(k, v); err != nil {
			c.find(bucket, "%x: %v", k, err)
		}
		return nil
	})
}

func (c *checker) has(bucket string, key []byte) bool {
	k, _ := c.tx.bucket(bucket).Cursor().Seek(key)
	return bytes.Equal(k, key) && k != nil
}

func (c *checker) users() error {
	err := c.each(bucketUsers, func(k, _ []byte) error {
		u, err := c.tx.User(keyserver.UserID(k))
		if err == nil && !bytes.Equal(c.tx.bucket(bucketUserNames).Get([]byte(u.Name)), k) {
			err = fmt.Errorf("the name %q is not listed as this user's", u.Name)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.each(bucketUserNames, func(name, id []byte) error {
		u, err := get[keyserver.User](c.tx.bucket(bucketUsers), id)
		if err == nil && (u == nil || u.Name != string(name)) {
			err = fmt.Errorf("the name %q is that of no user", name)
		}
		return err
	})
}

func (c *checker) sessions() error {
	err := c.each(bucketSessions, func(k, _ []byte) error {
		s, err := decode(c.tx.bucket(bucketSessions).Get(k), decodeSession)
		if err != nil {
			return err
		}
		if !c.has(bucketUserSessions, join(s.User[:], k)) {
			return fmt.Errorf("not listed as the user's")
		}
		if !bytes.Equal(c.tx.bucket(bucketTokens).Get(s.Token[:]), k) || !c.has(bucketSessionTokens, join(k, num(s.Generation))) {
			return fmt.Errorf("its refresh token is not listed")
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.each(bucketUserSessions, func(k, _ []byte) error {
		if len(k) != 32 || !c.has(bucketSessions, k[16:]) {
			return fmt.Errorf("lists a session that is not there")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.each(bucketSessionTokens, func(k, hash []byte) error {
		if len(k) != 24 || !c.has(bucketSessions, k[:16]) || !bytes.Equal(c.tx.bucket(bucketTokens).Get(hash), k[:16]) {
			return fmt.Errorf("a refresh token without its session")
		}
		return nil
	})
}

func (c *checker) accounts() error {
	err := c.each(bucketAccounts, func(k, _ []byte) error {
		a, err := decode(c.tx.bucket(bucketAccounts).Get(k), decodeAccount)
		if err == nil && (!bytes.Equal(accountKey(a.Account), k) || !c.has(bucketUserAccounts, join(a.User[:], k))) {
			err = fmt.Errorf("not listed as the user's")
		}
		return err
	})
	if err != nil {
		return err
	}
	err = c.each(bucketUserAccounts, func(k, _ []byte) error {
		if len(k) < 16 || !c.has(bucketAccounts, k[16:]) {
			return fmt.Errorf("lists an account that is not there")
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.each(bucketPool, func(k, v []byte) error {
		_, err := parseKeyPackage(v)
		return err
	})
	if err != nil {
		return err
	}
	return c.each(bucketLastResort, func(_, v []byte) error { _, err := parseKeyPackage(v); return err })
}

func (c *checker) objects() error {
	var user []byte
	var n, size int64
	compare := func() {
		haveN, haveSize, err := c.tx.counts(bucketUsage, user)
		if err != nil || haveN != n || haveSize != size {
			c.find(bucketUsage, "%x: %d objects of %d octets, counted as %d of %d, %v", user, n, size, haveN, haveSize, err)
		}
	}
	err := c.each(bucketObjects, func(k, v []byte) error {
		m, err := parseObjectMeta(v)
		if err != nil || len(k) != 48 {
			return fmt.Errorf("object record: %v", err)
		}
		if !bytes.Equal(user, k[:16]) {
			if user != nil {
				compare()
			}
			user, n, size = bytes.Clone(k[:16]), 0, 0
		}
		n, size = n+1, size+int64(m.size)
		c.uses[m.blob]++
		data := c.tx.bucket(bucketBlobs).Get(num(m.blob))
		if uint64(len(data)) != m.size || sha256.Sum256(data) != m.hash {
			return fmt.Errorf("its octets are missing or altered")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if user != nil {
		compare()
	}
	return c.each(bucketUsage, func(k, _ []byte) error {
		if first, _ := c.tx.bucket(bucketObjects).Cursor().Seek(k); !bytes.HasPrefix(first, k) {
			return fmt.Errorf("counts objects of a user who has none")
		}
		return nil
	})
}

func (c *checker) conversations() error {
	return c.each(bucketConversations, func(k, _ []byte) error {
		v, err := decode(c.tx.bucket(bucketConversations).Get(k), decodeConversation)
		if err == nil && !bytes.Equal(c.tx.bucket(bucketGroups).Get(v.Group), k) {
			err = fmt.Errorf("its group is not listed as used by it")
		}
		return err
	})
}

// blobs compares the uses that were counted with those that are stored.
func (c *checker) blobs() error {
	err := c.each(bucketBlobs, func(k, _ []byte) error {
		n := binary.BigEndian.Uint64(k)
		stored := uint64(1)
		if v := c.tx.bucket(bucketBlobUses).Get(k); v != nil {
			var err error
			if stored, err = readNum(v); err != nil {
				return err
			}
		}
		used := c.uses[n]
		delete(c.uses, n)
		if used != stored {
			return fmt.Errorf("used %d times, counted as %d", used, stored)
		}
		return nil
	})
	for n := range c.uses {
		c.find(bucketBlobs, "%d: missing", n)
	}
	return err
}
