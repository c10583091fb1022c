package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func keyPackage(n byte, end time.Time) *keyserver.KeyPackage {
	return &keyserver.KeyPackage{Ref: []byte{n, 'r'}, NotAfter: end, Data: []byte{n, 'd'}}
}

// takes fails unless the next KeyPackage is number n; 0: none.
func takes(w keyserver.Writer, a keyapi.Account, now time.Time, n byte, lastResort bool) error {
	kp, last, err := w.TakeKeyPackage(a, now)
	switch {
	case err != nil:
		return err
	case n == 0 && kp != nil:
		return fmt.Errorf("took %v, want none", kp)
	case n == 0:
		return want("last resort", last, false)
	case kp == nil:
		return fmt.Errorf("took none, want %d", n)
	}
	return errors.Join(want("octets", kp.Data, []byte{n, 'd'}), want("reference", kp.Ref, []byte{n, 'r'}), want("last resort", last, lastResort))
}

// keyPackages: the oldest first, each once, the last-resort one for ever.
func keyPackages(s *suite) {
	a, b := account("a"), account("b")
	end := start.Add(time.Hour)
	s.both(func(w keyserver.Writer) error { return takes(w, a, start, 0, false) },
		func(r keyserver.Reader) error {
			return is("empty pool", keyapi.KeyPackageCount{})(r.KeyPackageCount(a, start))
		})
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.AddKeyPackage(a, keyPackage(3, end)), w.AddKeyPackage(a, keyPackage(1, end)), w.AddKeyPackage(b, keyPackage(7, end)))
	}, func(r keyserver.Reader) error {
		return errors.Join(is("pool", keyapi.KeyPackageCount{Available: 2})(r.KeyPackageCount(a, start)),
			is("known", true)(r.KeyPackageKnown(a, []byte{1, 'r'})), is("known elsewhere", false)(r.KeyPackageKnown(b, []byte{1, 'r'})))
	})
	s.update(func(w keyserver.Writer) error { return w.AddKeyPackage(a, keyPackage(2, end)) })
	s.update(func(w keyserver.Writer) error { return takes(w, a, start, 3, false) })
	s.update(func(w keyserver.Writer) error {
		return errors.Join(takes(w, a, start, 1, false), takes(w, a, start, 2, false))
	})
	s.both(func(w keyserver.Writer) error { return takes(w, a, start, 0, false) }, func(r keyserver.Reader) error {
		return is("known when handed out", true)(r.KeyPackageKnown(a, []byte{1, 'r'}))
	})
	s.both(func(w keyserver.Writer) error { return w.PutLastResort(a, keyPackage(9, end)) }, func(r keyserver.Reader) error {
		return is("last resort only", keyapi.KeyPackageCount{LastResort: true})(r.KeyPackageCount(a, start))
	})
	for range 3 {
		s.update(func(w keyserver.Writer) error { return takes(w, a, start, 9, true) })
	}
	s.update(func(w keyserver.Writer) error { return w.AddKeyPackage(a, keyPackage(4, end)) })
	s.update(func(w keyserver.Writer) error {
		return errors.Join(takes(w, a, start, 4, false), takes(w, a, start, 9, true))
	})
	s.update(func(w keyserver.Writer) error { return w.PutLastResort(a, keyPackage(10, end)) })
	s.update(func(w keyserver.Writer) error {
		return errors.Join(takes(w, a, start, 10, true), takes(w, b, start, 7, false))
	})
}

// keyPackagesEnd: the second that is the end belongs to the life.
func keyPackagesEnd(s *suite) {
	a, end := account("a"), start.Add(time.Hour)
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.AddKeyPackage(a, keyPackage(1, start)), w.AddKeyPackage(a, keyPackage(2, end)), w.AddKeyPackage(a, keyPackage(3, start)),
			w.AddKeyPackage(a, keyPackage(4, end)), w.PutLastResort(a, keyPackage(9, start)))
	})
	s.view(func(r keyserver.Reader) error {
		return errors.Join(is("at the end", keyapi.KeyPackageCount{Available: 4, LastResort: true})(r.KeyPackageCount(a, start)),
			is("a moment later", keyapi.KeyPackageCount{Available: 2})(r.KeyPackageCount(a, start.Add(time.Nanosecond))),
			is("a second later", keyapi.KeyPackageCount{Available: 2})(r.KeyPackageCount(a, start.Add(time.Second))))
	})
	late := start.Add(time.Second)
	s.update(func(w keyserver.Writer) error { return takes(w, a, late, 2, false) })
	s.both(func(w keyserver.Writer) error { return w.DropEndedKeyPackages(a, late) }, func(r keyserver.Reader) error {
		return is("what has ended is gone, whatever the time", keyapi.KeyPackageCount{Available: 1, LastResort: true})(r.KeyPackageCount(a, start))
	})
	s.update(func(w keyserver.Writer) error {
		return errors.Join(takes(w, a, late, 4, false), takes(w, a, late, 0, false))
	})
}

func conversations(s *suite) {
	id := keyserver.ConversationID{1}
	c := keyserver.Conversation{ID: id, Kind: keyapi.KindDialog, Pair: []keyapi.Account{account("a"), account("b")}, Group: []byte("g1"), TokenHash: []byte("t")}
	group := keyserver.Conversation{ID: id, Kind: keyapi.KindGroup, Group: []byte("g2"), Epoch: 7, TokenHash: []byte{}}
	s.view(func(r keyserver.Reader) error {
		return errors.Join(absent[keyserver.Conversation]("conversation")(r.Conversation(c.Kind, id)), is("group", false)(r.GroupUsed(c.Group)))
	})
	s.both(func(w keyserver.Writer) error { return errors.Join(w.PutConversation(&c), w.PutConversation(&group)) },
		func(r keyserver.Reader) error {
			return errors.Join(found("dialog", c)(r.Conversation(c.Kind, id)), found("group with its id", group)(r.Conversation(group.Kind, id)),
				is("group", true)(r.GroupUsed(c.Group)), absent[keyserver.Conversation]("other kind")(r.Conversation(keyapi.KindSelf, id)))
		})
	next := c
	next.Epoch = 1
	s.both(func(w keyserver.Writer) error { return w.PutConversation(&next) },
		func(r keyserver.Reader) error { return found("next epoch", next)(r.Conversation(c.Kind, id)) })
	replaced := next
	replaced.Group, replaced.Epoch = []byte("g3"), 0
	s.both(func(w keyserver.Writer) error { return w.PutConversation(&replaced) },
		func(r keyserver.Reader) error {
			return errors.Join(found("other instance", replaced)(r.Conversation(c.Kind, id)),
				is("old group", true)(r.GroupUsed([]byte("g1"))), is("new group", true)(r.GroupUsed([]byte("g3"))))
		})
}
