package boltstore

import (
	"bytes"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// inboxEntry is a delivery without Seq, which is in the key, and Message, which
// is a blob shared by all its inboxes.
type inboxEntry struct {
	keyapi.Delivery
	From keyserver.UserID `json:"from"`
	Blob uint64           `json:"blob"`
	Size int64            `json:"size"`
}

func parseEntry(seq, v []byte) (*inboxEntry, error) {
	n, err := readNum(seq)
	if err != nil {
		return nil, err
	}
	e, err := decode(v, decodeEntry)
	if err != nil {
		return nil, err
	}
	e.Seq = n
	return e, nil
}

// load gives the delivery with its octets.
func (t *tx) load(e *inboxEntry) (*keyapi.Delivery, error) {
	data, err := t.blob(e.Blob)
	if err != nil {
		return nil, err
	}
	d := e.Delivery
	d.Message = data
	return &d, nil
}

func (t *tx) Deliveries(a keyapi.Account, after uint64, limit, size int) ([]keyapi.Delivery, error) {
	all := []keyapi.Delivery{}
	if limit < 1 || after+1 == 0 {
		return all, nil
	}
	prefix := accountKey(a)
	c := t.bucket(bucketInbox).Cursor()
	for k, v := c.Seek(join(prefix, num(after+1))); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		e, err := parseEntry(k[len(prefix):], v)
		if err != nil {
			return nil, err
		}
		size -= int(e.Size)
		if size < 0 && len(all) > 0 {
			break
		}
		d, err := t.load(e)
		if err != nil {
			return nil, err
		}
		if all = append(all, *d); len(all) == limit {
			break
		}
	}
	return all, nil
}

func (t *tx) LastSeq(a keyapi.Account) (uint64, error) {
	v := t.bucket(bucketInboxSeq).Get(accountKey(a))
	if v == nil {
		return 0, nil
	}
	return readNum(v)
}

// DeliveredCommit reads backwards: a Commit that is asked for is a late one.
func (t *tx) DeliveredCommit(a keyapi.Account, group []byte, epoch uint64) (*keyapi.Delivery, error) {
	last, err := t.LastSeq(a)
	if err != nil || last == 0 {
		return nil, err
	}
	prefix := accountKey(a)
	c := t.bucket(bucketInbox).Cursor()
	k, v := c.Seek(join(prefix, num(last)))
	if k == nil || !bytes.HasPrefix(k, prefix) { // the last one is acknowledged, and so are all
		return nil, nil
	}
	for ; k != nil && bytes.HasPrefix(k, prefix); k, v = c.Prev() {
		e, err := parseEntry(k[len(prefix):], v)
		if err != nil {
			return nil, err
		}
		if e.Type == keyapi.DeliveryCommit && e.Epoch == epoch && bytes.Equal(e.Group, group) {
			return t.load(e)
		}
	}
	return nil, nil
}

func (t *tx) InboxUsage(a keyapi.Account, from keyserver.UserID) (keyserver.InboxUsage, error) {
	key := accountKey(a)
	n, size, err := t.counts(bucketInboxUsage, key)
	if err != nil {
		return keyserver.InboxUsage{}, err
	}
	nFrom, sizeFrom, err := t.counts(bucketInboxUsage, join(key, from[:]))
	return keyserver.InboxUsage{Messages: int(n), Bytes: size, MessagesFrom: int(nFrom), BytesFrom: sizeFrom}, err
}

func (t *tx) countInbox(key []byte, from keyserver.UserID, n, size int64) error {
	if err := t.count(bucketInboxUsage, key, n, size); err != nil {
		return err
	}
	return t.count(bucketInboxUsage, join(key, from[:]), n, size)
}

func (t *tx) Deliver(m *keyapi.Delivery, from keyserver.UserID, to []keyapi.Account) error {
	if len(to) == 0 {
		return nil
	}
	blob, err := t.addBlob(m.Message, uint64(len(to)))
	if err != nil {
		return err
	}
	e := inboxEntry{Delivery: *m, From: from, Blob: blob, Size: int64(len(m.Message))}
	record := encodeEntry(&e)
	inbox, numbers := t.bucket(bucketInbox), t.bucket(bucketInboxSeq)
	for _, a := range to {
		key := accountKey(a)
		have, last := numbers.Get(key), uint64(0)
		if have != nil {
			if last, err = readNum(have); err != nil {
				return err
			}
		}
		if err := inbox.replace(join(key, num(last+1)), nil, record); err != nil {
			return err
		}
		if err := numbers.replace(key, have, num(last+1)); err != nil {
			return err
		}
		if err := t.countInbox(key, from, 1, e.Size); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Acknowledge(a keyapi.Account, seq uint64) error {
	prefix := accountKey(a)
	inbox := t.bucket(bucketInbox)
	var done []*inboxEntry
	err := withPrefix(inbox, prefix, func(k, v []byte) (bool, error) {
		e, err := parseEntry(k, v)
		if err != nil || e.Seq > seq {
			return true, err
		}
		done = append(done, e)
		return false, nil
	})
	if err != nil {
		return err
	}
	for _, e := range done {
		if err := inbox.Delete(join(prefix, num(e.Seq))); err != nil {
			return err
		}
		if err := t.dropBlob(e.Blob); err != nil {
			return err
		}
		if err := t.countInbox(prefix, e.From, -1, -e.Size); err != nil {
			return err
		}
	}
	return nil
}
