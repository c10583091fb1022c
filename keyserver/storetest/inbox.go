package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// reads fails unless the inbox has these messages behind a number.
func reads(r keyserver.Reader, a keyapi.Account, after uint64, texts ...string) error {
	d, err := r.Deliveries(a, after, 1000, 1<<30)
	if err != nil {
		return err
	}
	var got []string
	for i := range d {
		if i > 0 && d[i].Seq != d[i-1].Seq+1 {
			return fmt.Errorf("message %d comes behind %d", d[i].Seq, d[i-1].Seq)
		}
		got = append(got, string(d[i].Message))
	}
	return want("inbox of "+a.ID, got, texts)
}

func deliver(w keyserver.Writer, from keyserver.UserID, text string, to ...keyapi.Account) error {
	return w.Deliver(message(keyapi.DeliveryCommit, text), from, to)
}

// flaw25: nothing goes before it is acknowledged, however often it is read.
func flaw25(s *suite) {
	a, u := account("a"), userID(1)
	s.update(func(w keyserver.Writer) error { return errors.Join(deliver(w, u, "1", a), deliver(w, u, "2", a)) })
	for range 3 {
		s.view(func(r keyserver.Reader) error { return reads(r, a, 0, "1", "2") })
	}
	s.both(func(w keyserver.Writer) error { return w.Acknowledge(a, 1) }, func(r keyserver.Reader) error {
		return errors.Join(reads(r, a, 0, "2"), is("last", uint64(2))(r.LastSeq(a)))
	})
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.Acknowledge(a, 1), w.Acknowledge(a, 2), w.Acknowledge(a, 2))
	},
		func(r keyserver.Reader) error {
			return errors.Join(reads(r, a, 0), is("last", uint64(2))(r.LastSeq(a)))
		})
	s.both(func(w keyserver.Writer) error { return deliver(w, u, "3", a) }, func(r keyserver.Reader) error {
		d, err := r.Deliveries(a, 2, 1, 1)
		if err != nil || len(d) != 1 {
			return fmt.Errorf("%d messages, %w", len(d), err)
		}
		return want("number goes on", d[0].Seq, uint64(3))
	})
}

// flaw26: the order of calls is the order in every inbox, and all of a
// transaction's messages are together.
func flaw26(s *suite) {
	a, b, u := account("a"), account("b"), userID(1)
	s.both(func(w keyserver.Writer) error {
		return errors.Join(deliver(w, u, "commit", a, b), deliver(w, u, "welcome", b), deliver(w, u, "commit 2", b, a))
	}, func(r keyserver.Reader) error {
		return errors.Join(reads(r, a, 0, "commit", "commit 2"), reads(r, b, 0, "commit", "welcome", "commit 2"))
	})
	full := message(keyapi.DeliveryWelcome, "text")
	full.Epoch, full.Group, full.Sender = 9, []byte{0, 255}, account("s/t")
	s.update(func(w keyserver.Writer) error { return w.Deliver(full, u, []keyapi.Account{a}) })
	s.view(func(r keyserver.Reader) error {
		d, err := r.Deliveries(a, 2, 10, 100)
		if err != nil || len(d) != 1 {
			return fmt.Errorf("%d messages, %w", len(d), err)
		}
		full.Seq = 3
		return want("all of it", d[0], *full)
	})
}

func pages(s *suite) {
	a, u := account("a"), userID(1)
	s.update(func(w keyserver.Writer) error {
		for i := range 5 {
			if err := deliver(w, u, fmt.Sprint(i, "........."), a); err != nil { // ten octets
				return err
			}
		}
		return nil
	})
	count := func(r keyserver.Reader, after uint64, limit, size, n int) error {
		d, err := r.Deliveries(a, after, limit, size)
		if err == nil && d == nil {
			err = errors.New("nil instead of an empty list")
		}
		if err == nil && len(d) > 0 && d[0].Seq != after+1 {
			err = fmt.Errorf("begins at %d", d[0].Seq)
		}
		return errors.Join(err, want(fmt.Sprint("after ", after, " limit ", limit, " size ", size), len(d), n))
	}
	s.view(func(r keyserver.Reader) error {
		return errors.Join(count(r, 0, 2, 1000, 2), count(r, 2, 2, 1000, 2), count(r, 4, 2, 1000, 1), count(r, 5, 2, 1000, 0),
			count(r, 0, 10, 30, 3), count(r, 0, 10, 29, 2), count(r, 1, 10, 1, 1), count(r, 0, 0, 1000, 0), count(r, 0, 10, 0, 1),
			count(r, math.MaxUint64, 10, 1000, 0), count(r, math.MaxInt64, 10, 1000, 0))
	})
}

func deliveredCommit(s *suite) {
	a, b, u := account("a"), account("b"), userID(1)
	put := func(w keyserver.Writer, kind, group string, epoch uint64, to ...keyapi.Account) error {
		m := message(kind, fmt.Sprint(kind, group, epoch))
		m.Group, m.Epoch = []byte(group), epoch
		return w.Deliver(m, u, to)
	}
	commit := func(r keyserver.Reader, of keyapi.Account, group string, epoch uint64, text string) error {
		d, err := r.DeliveredCommit(of, []byte(group), epoch)
		if err != nil || text == "" {
			return errors.Join(err, want("commit of "+group, d, (*keyapi.Delivery)(nil)))
		}
		if d == nil {
			return fmt.Errorf("no Commit of %s at %d", group, epoch)
		}
		return want("commit of "+group, string(d.Message), text)
	}
	s.both(func(w keyserver.Writer) error {
		return errors.Join(put(w, keyapi.DeliveryCommit, "g", 1, a, b), put(w, keyapi.DeliveryWelcome, "h", 1, a), put(w, keyapi.DeliveryCommit, "g", 2, a))
	}, func(r keyserver.Reader) error {
		return errors.Join(commit(r, a, "g", 1, "commitg1"), commit(r, a, "g", 2, "commitg2"), commit(r, b, "g", 2, ""),
			commit(r, a, "h", 1, ""), commit(r, a, "g", 3, ""), commit(r, account("c"), "g", 1, ""))
	})
	s.both(func(w keyserver.Writer) error { return w.Acknowledge(a, 2) }, func(r keyserver.Reader) error {
		return errors.Join(commit(r, a, "g", 1, ""), commit(r, a, "g", 2, "commitg2"), commit(r, b, "g", 1, "commitg1"))
	})
	s.both(func(w keyserver.Writer) error { return w.Acknowledge(a, 3) }, func(r keyserver.Reader) error { return commit(r, a, "g", 2, "") })
}

func inboxUsage(s *suite) {
	a, b, u, v := account("a"), account("b"), userID(1), userID(2)
	use := func(r keyserver.Reader, of keyapi.Account, from keyserver.UserID, n, nFrom int, size, sizeFrom int64) error {
		return is("usage of "+of.ID, keyserver.InboxUsage{Messages: n, MessagesFrom: nFrom, Bytes: size, BytesFrom: sizeFrom})(r.InboxUsage(of, from))
	}
	s.both(func(w keyserver.Writer) error { return nil }, func(r keyserver.Reader) error { return use(r, a, u, 0, 0, 0, 0) })
	s.both(func(w keyserver.Writer) error {
		return errors.Join(deliver(w, u, "1", a, b), deliver(w, v, "22", a), deliver(w, u, "333", a))
	}, func(r keyserver.Reader) error {
		return errors.Join(use(r, a, u, 3, 2, 6, 4), use(r, a, v, 3, 1, 6, 2), use(r, b, u, 1, 1, 1, 1), use(r, b, v, 1, 0, 1, 0),
			use(r, a, keyserver.UserID{}, 3, 0, 6, 0), use(r, account("c"), keyserver.UserID{}, 0, 0, 0, 0))
	})
	s.both(func(w keyserver.Writer) error { return w.Acknowledge(a, 2) }, func(r keyserver.Reader) error {
		return errors.Join(use(r, a, u, 1, 1, 3, 3), use(r, a, v, 1, 0, 3, 0), use(r, b, u, 1, 1, 1, 1))
	})
	s.both(func(w keyserver.Writer) error { return errors.Join(w.Acknowledge(a, 3), deliver(w, v, "4444", a)) },
		func(r keyserver.Reader) error { return errors.Join(use(r, a, u, 1, 0, 4, 0), use(r, a, v, 1, 1, 4, 4)) })
}

func sharedOctets(s *suite) {
	a, b, c, u := account("a"), account("b"), account("c"), userID(1)
	s.update(func(w keyserver.Writer) error {
		return errors.Join(deliver(w, u, "shared", a, b, c), deliver(w, u, "shared too", b, a), deliver(w, u, "a", a))
	})
	s.both(func(w keyserver.Writer) error { return errors.Join(w.Acknowledge(a, 2), w.Acknowledge(b, 1)) },
		func(r keyserver.Reader) error {
			return errors.Join(reads(r, a, 0, "a"), reads(r, b, 0, "shared too"), reads(r, c, 0, "shared"))
		})
	s.both(func(w keyserver.Writer) error { return w.Acknowledge(b, 2) },
		func(r keyserver.Reader) error { return errors.Join(reads(r, b, 0), reads(r, c, 0, "shared")) })
	s.update(func(w keyserver.Writer) error { return errors.Join(w.Acknowledge(c, 1), w.Acknowledge(a, 3)) })
	if n := s.h.Census(s.T, s.s); n["octets"] != 0 || n["inbox"] != 0 {
		s.Errorf("left behind: %v", n)
	}
}

func outlive(s *suite) {
	a, u := account("a"), userID(1)
	s.update(func(w keyserver.Writer) error {
		return errors.Join(deliver(w, u, "message", a), w.PutObject(u, object(objectID(1), 1, "object")), w.PutMark([]byte("mark")))
	})
	var kept [][]byte
	s.view(func(r keyserver.Reader) error {
		d, err := r.Deliveries(a, 0, 1, 1)
		o, err2 := r.Object(u, objectID(1))
		m, err3 := r.Mark()
		if err := errors.Join(err, err2, err3); err != nil {
			return err
		}
		kept = [][]byte{d[0].Message, o.Data, m}
		return nil
	})
	s.update(func(w keyserver.Writer) error {
		for i := range uint64(50) { // reuses pages
			if err := w.PutObject(u, &keyapi.Object{ID: objectID(1), Counter: i + 2, Data: bytes.Repeat([]byte{1}, 5000)}); err != nil {
				return err
			}
		}
		return errors.Join(w.Acknowledge(a, 1), w.PutMark([]byte("kram")))
	})
	if err := want("kept", fmt.Sprintf("%s", kept), "[message object mark]"); err != nil {
		s.Error(err)
	}
}
