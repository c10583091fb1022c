package boltstore

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// fillIn sets every field of a record, so that a new one that is not written is
// noticed.
func fillIn(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2031, 2, 3, 4, 5, 6, 7, time.FixedZone("", 3600))
		return
	case *[]byte:
		*x = []byte{1, 2, 3}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillIn(t, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(i + 1))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fillIn(t, v.Index(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(300)
	case reflect.Uint8:
		v.SetUint(200)
	case reflect.Uint64:
		v.SetUint(1 << 63)
	default:
		t.Fatalf("a field of type %s: write it, and fill it in here", v.Type())
	}
}

// roundTrip writes and reads a record, cuts it off everywhere, and reads the
// JSON of format 1.
func roundTrip[T any](t *testing.T, write func(*T) ([]byte, error), read func(*decoder, *T), before func(*T)) {
	t.Helper()
	var full, empty T
	fillIn(t, reflect.ValueOf(&full).Elem())
	if before != nil {
		before(&full)
	}
	for _, r := range []*T{&full, &empty} {
		b, err := write(r)
		if err != nil {
			t.Fatal(err)
		}
		stored := bytes.Clone(b)
		got, err := decode(stored, read)
		clear(stored) // pages are used again
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%T:\ngot  %+v, %v\nwant %+v", r, got, err, r)
		}
		for n := range b {
			if got, err := decode(b[:n], read); err == nil {
				t.Errorf("%T: %d of %d octets read as %+v", r, n, len(b), got)
			}
		}
		if _, err := decode(append(bytes.Clone(b), 0), read); err == nil {
			t.Errorf("%T: an octet too many was not noticed", r)
		}
		old, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(old, read); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%T, format 1:\ngot  %+v, %v\nwant %+v", r, got, err, r)
		}
	}
}

func TestRecords(t *testing.T) {
	roundTrip(t, encodeSession, decodeSession, nil)
	roundTrip(t, encodeAccount, decodeAccount, nil)
	roundTrip(t, func(c *keyserver.Conversation) ([]byte, error) { return encodeConversation(c), nil }, decodeConversation, nil)
	roundTrip(t, func(e *inboxEntry) ([]byte, error) { return encodeEntry(e), nil }, decodeEntry, func(e *inboxEntry) {
		e.Seq, e.Message = 0, nil // which are elsewhere
	})
}

// FuzzRecords: nothing that lies in a file makes the decoder panic or hang.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{recordBinary})
	f.Add([]byte(`{"ID":"00"}`))
	f.Add(bytes.Repeat([]byte{recordBinary, 0xff, 0x7f}, 40))
	f.Add(encodeConversation(&keyserver.Conversation{Kind: keyapi.KindGroup, Group: []byte("g")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		reads := []func() error{
			func() error { _, err := decode(b, decodeSession); return err },
			func() error { _, err := decode(b, decodeAccount); return err },
			func() error { _, err := decode(b, decodeEntry); return err },
		}
		for _, read := range reads {
			_ = read() // an error or none: what was read is of the file
		}
		c, err := decode(b, decodeConversation)
		if err != nil || c == nil || b[0] != recordBinary {
			return
		}
		again, err := decode(encodeConversation(c), decodeConversation)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v is written as %+v, %v", c, again, err)
		}
	})
}

// asFormat1 makes a file what an earlier version would have written.
func asFormat1(t *testing.T, path string) {
	t.Helper()
	rewrite := func(tx *bolt.Tx, name string, old func(v []byte) (any, error)) error {
		b := tx.Bucket([]byte(name))
		values := map[string][]byte{}
		err := b.ForEach(func(k, v []byte) error {
			r, err := old(v)
			if err == nil {
				values[string(k)], err = json.Marshal(r)
			}
			return err
		})
		for k, v := range values {
			if err == nil {
				err = b.Put([]byte(k), v)
			}
		}
		return err
	}
	err := edit(path, func(tx *bolt.Tx) error {
		for name, old := range map[string]func(v []byte) (any, error){
			bucketSessions:      func(v []byte) (any, error) { return decode(v, decodeSession) },
			bucketAccounts:      func(v []byte) (any, error) { return decode(v, decodeAccount) },
			bucketConversations: func(v []byte) (any, error) { return decode(v, decodeConversation) },
			bucketInbox:         func(v []byte) (any, error) { return decode(v, decodeEntry) },
		} {
			if err := rewrite(tx, name, old); err != nil {
				return err
			}
		}
		expiry := tx.Bucket([]byte(bucketExpiry))
		var old [][]byte
		if err := expiry.ForEach(func(k, v []byte) error { old = append(old, join(k[:9], v)); return nil }); err != nil {
			return err
		}
		if err := tx.DeleteBucket([]byte(bucketExpiry)); err != nil {
			return err
		}
		expiry, err := tx.CreateBucket([]byte(bucketExpiry))
		for _, k := range old {
			if err == nil {
				err = expiry.Put(k, nil)
			}
		}
		if err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketMeta)).Put([]byte("format"), []byte(formatJSON))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A file of format 1 is read, what changes in it is written anew, what was to
// end ends, and it says that it is of format 2.
func TestFormat1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyserver.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	a, u, now := keyapi.Account{Platform: "email", ID: "alice@example.org"}, keyserver.UserID{1}, time.Unix(1_900_000_000, 0)
	session := &keyserver.Session{ID: keyserver.SessionID{2}, User: u, Token: keyserver.Hash{3}, Created: now.UTC(), Used: now.UTC()}
	account := &keyserver.Account{Account: a, User: u, IdentityKey: []byte{4}, Created: now.UTC()}
	talk := &keyserver.Conversation{ID: keyserver.ConversationID{5}, Kind: keyapi.KindGroup, Group: []byte("group"), Epoch: 6}
	message := &keyapi.Delivery{Type: keyapi.DeliveryCommit, Kind: keyapi.KindGroup, Group: []byte("group"), Epoch: 6, Sender: a, Message: []byte("m")}
	update := func(s *Store, fn func(w keyserver.Writer) error) {
		t.Helper()
		if err := s.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	update(s, func(w keyserver.Writer) error {
		for _, err := range []error{
			w.PutUser(&keyserver.User{ID: u, Name: "alice"}), w.PutSession(session), w.PutAccount(account), w.PutConversation(talk),
			w.Deliver(message, u, []keyapi.Account{a}), w.PutTxResult(u, keyserver.Hash{7}, &keyapi.TxResult{Applied: true}, now),
			w.PutTxResult(u, keyserver.Hash{8}, &keyapi.TxResult{Applied: true}, now.Add(time.Hour)),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	asFormat1(t, path)
	for range 2 { // of format 1, and of format 2
		if s, err = Open(path); err != nil {
			t.Fatal(err)
		}
		err := s.View(t.Context(), func(r keyserver.Reader) error {
			gotSession, err := r.Session(session.ID)
			if err != nil || !reflect.DeepEqual(gotSession, session) {
				t.Errorf("session %+v, %v", gotSession, err)
			}
			gotAccount, err := r.Account(a)
			if err != nil || !reflect.DeepEqual(gotAccount, account) {
				t.Errorf("account %+v, %v", gotAccount, err)
			}
			gotTalk, err := r.Conversation(talk.Kind, talk.ID)
			if err != nil || !reflect.DeepEqual(gotTalk, talk) {
				t.Errorf("conversation %+v, %v", gotTalk, err)
			}
			inbox, err := r.Deliveries(a, 0, 9, 1<<20)
			if err != nil || len(inbox) != 1 || string(inbox[0].Message) != "m" || inbox[0].Epoch != 6 || inbox[0].Seq != 1 {
				t.Errorf("inbox %+v, %v", inbox, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if list := findings(t, s); len(list) != 0 {
			t.Errorf("findings: %v", list)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	update(s, func(w keyserver.Writer) error { return w.Expire(now.Add(time.Minute), 10) })
	if n := s.census(t)["results"]; n != 1 {
		t.Errorf("%d results are left, want 1", n)
	}
	update(s, func(w keyserver.Writer) error { return w.Expire(now.Add(2*time.Hour), 10) })
	if n := s.census(t)["results"]; n != 0 {
		t.Errorf("%d results are left, want none", n)
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		if have := string(tx.Bucket([]byte(bucketMeta)).Get([]byte("format"))); have != Format {
			t.Errorf("the file says that it is %q", have)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
