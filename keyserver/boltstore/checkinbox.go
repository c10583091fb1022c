package boltstore

import (
	"encoding/binary"
	"fmt"
)

// splitAccount takes the account off the front of a key.
func splitAccount(k []byte) (account, rest []byte, err error) {
	n := 0
	for range 2 {
		if len(k) < n+2 {
			return nil, nil, fmt.Errorf("key is no account")
		}
		n += 2 + int(binary.BigEndian.Uint16(k[n:]))
	}
	if len(k) < n {
		return nil, nil, fmt.Errorf("key is no account")
	}
	return k[:n], k[n:], nil
}

// inboxes checks that numbers have no gaps up to the last one, and the counts.
func (c *checker) inboxes() error {
	type sum struct{ n, size int64 }
	sums := map[string]sum{}
	last := map[string]uint64{}
	err := c.each(bucketInbox, func(k, v []byte) error {
		account, seq, err := splitAccount(k)
		if err != nil {
			return err
		}
		e, err := parseEntry(seq, v)
		if err != nil {
			return err
		}
		c.uses[e.Blob]++
		for _, key := range []string{string(account), string(account) + string(e.From[:])} {
			s := sums[key]
			sums[key] = sum{s.n + 1, s.size + e.Size}
		}
		before, known := last[string(account)]
		last[string(account)] = e.Seq
		switch data := c.tx.bucket(bucketBlobs).Get(num(e.Blob)); {
		case int64(len(data)) != e.Size:
			return fmt.Errorf("its octets are missing or altered")
		case known && e.Seq != before+1:
			return fmt.Errorf("number %d comes behind %d", e.Seq, before)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for account, seq := range last {
		v := c.tx.bucket(bucketInboxSeq).Get([]byte(account))
		if stored, err := readNum(v); err != nil || stored != seq {
			c.find(bucketInboxSeq, "%x: the last message is %d, the last number %d", account, seq, stored)
		}
	}
	for key, s := range sums {
		if n, size, err := c.tx.counts(bucketInboxUsage, []byte(key)); err != nil || n != s.n || size != s.size {
			c.find(bucketInboxUsage, "%x: %d messages of %d octets, counted as %d of %d, %v", key, s.n, s.size, n, size, err)
		}
	}
	return c.each(bucketInboxUsage, func(k, _ []byte) error {
		if _, known := sums[string(k)]; !known {
			return fmt.Errorf("counts messages that are not there")
		}
		return nil
	})
}
