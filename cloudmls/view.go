package cloudmls

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/mls"
)

// view is one account's records as of a transaction, with changes that are
// kept back until flush. A nested view lets one delivery fail without undoing
// those before it.
type view struct {
	self   Account
	source func(state.Key) ([]byte, error)
	puts   map[state.Key][]byte // nil: delete
	// limited are archive records that go under keys which will be destroyed.
	limited map[state.Key]bool
	// vouched are accounts whose KeyPackages the key server handed out to us.
	vouched map[Account]bool
	// added are accounts that a received Commit adds; entered says that the group
	// is entered, so that nobody's beginning in it was seen.
	added   map[Account]bool
	entered bool
	certs   *certified
}

func newView(tx *state.Tx, self Account, certs *certified) *view {
	return &view{self: self, source: tx.Get, puts: map[state.Key][]byte{}, certs: certs}
}

// vouchFor notes whose KeyPackages were claimed.
func (v *view) vouchFor(claimed map[Account]*mls.KeyPackage) {
	v.vouched = make(map[Account]bool, len(claimed))
	for a := range claimed {
		v.vouched[a] = true
	}
}

// seeAdded notes whom a received Commit adds, be it again.
func (v *view) seeAdded(members []mls.Member) error {
	list, err := v.certs.roster(members)
	if err != nil {
		return err
	}
	v.added = make(map[Account]bool, len(list))
	for _, m := range list {
		v.added[m.account()] = true
	}
	return nil
}

// nested gives a view on top of v; merge brings its changes into v.
func (v *view) nested() *view {
	return &view{self: v.self, source: v.get, puts: map[state.Key][]byte{}, certs: v.certs}
}

func (v *view) merge(child *view) {
	maps.Copy(v.puts, child.puts)
	for k := range child.limited {
		v.limit(k)
	}
}

func (v *view) limit(k state.Key) {
	if v.limited == nil {
		v.limited = map[state.Key]bool{}
	}
	v.limited[k] = true
}

func (v *view) size() int {
	n := 0
	for _, b := range v.puts {
		n += len(b)
	}
	return n
}

// checkSizes refuses changes that the state has no room for: those that a
// delivery causes are as large as its maker wants, and one that can never be
// stored would block all after it.
func (v *view) checkSizes() error {
	for _, b := range v.puts {
		if len(b) > state.MaxData {
			return refuse(ProblemTooLarge, fmt.Errorf("it would take a record of %d octets", len(b)))
		}
	}
	if n := v.size(); n > maxChange {
		return refuse(ProblemTooLarge, fmt.Errorf("it would change %d octets of state", n))
	}
	return nil
}

func (v *view) flush(tx *state.Tx) error {
	for k, b := range v.puts {
		err := error(nil)
		switch {
		case b == nil:
			err = tx.Delete(k)
		case v.limited[k]:
			err = tx.PutArchived(k, b, state.Shelf{Scope: shelfScope(tx, k)})
		default:
			err = tx.Put(k, b)
		}
		if err != nil {
			return fmt.Errorf("change state: %w", err)
		}
	}
	return nil
}

func (v *view) get(k state.Key) ([]byte, error) {
	if b, ok := v.puts[k]; ok {
		if b == nil {
			return nil, state.ErrNotFound
		}
		return b, nil
	}
	return v.source(k)
}

func (v *view) put(k state.Key, record any) error {
	b, err := encodeRecord(record)
	if err != nil {
		return err
	}
	v.puts[k] = b
	return nil
}

func (v *view) putRaw(k state.Key, b []byte) { v.puts[k] = b }

// putEpoch puts an archive record; limited says that its history is not kept
// for ever.
func (v *view) putEpoch(k state.Key, b []byte, limited bool) {
	v.puts[k] = b
	if limited {
		v.limit(k)
	}
}

func (v *view) delete(k state.Key) { v.puts[k] = nil }

// read decodes the record under k into out; false where there is none.
func (v *view) read(k state.Key, out any) (bool, error) {
	b, err := v.get(k)
	if errors.Is(err, state.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, decodeRecord(b, out)
}

func (v *view) inbox() (*inboxRecord, error) {
	r := &inboxRecord{Version: recordVersion}
	_, err := v.read(inboxKey(v.self), r)
	return r, err
}

func (v *view) keyPackages() (*keyPackagesRecord, error) {
	r := &keyPackagesRecord{Version: recordVersion}
	_, err := v.read(keyPackagesKey(v.self), r)
	return r, err
}

func (v *view) contacts() (*contactsRecord, error) {
	r := &contactsRecord{Version: recordVersion}
	_, err := v.read(contactsKey(v.self), r)
	return r, err
}

// conversation gives nil where there is none.
func (v *view) conversation(id ConversationID) (*conversationRecord, error) {
	r := &conversationRecord{}
	ok, err := v.read(conversationKey(v.self, id), r)
	if err != nil || !ok {
		return nil, err
	}
	if r.ID != id {
		return nil, errors.New("conversation record: of another conversation")
	}
	return r, nil
}

func (v *view) sender(group []byte) (*senderRecord, error) {
	r := &senderRecord{}
	ok, err := v.read(senderKey(v.self, group), r)
	if err == nil && !ok {
		err = fmt.Errorf("sender record: %w", state.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// group gives the live group and the signature key of the own leaf in it. It
// fails with a movedError where a sibling device has left the given epoch, or the
// group.
func (v *view) group(id []byte, epoch uint64) (*mls.Group, *senderRecord, error) {
	s, err := v.sender(id)
	if err != nil {
		return nil, nil, err
	}
	var g *mls.Group
	b, err := v.get(groupKey(v.self, id))
	if err == nil {
		g, err = mls.UnmarshalGroup(b, mls.SignaturePrivateKey(s.SignatureKey), v.certs.validate)
	}
	if err == nil {
		return g, s, nil
	}
	if s.of(epoch) { // the state may have changed between the two
		now, e := v.sender(id)
		if e != nil || now.of(epoch) {
			return nil, nil, fmt.Errorf("group record: %w", err)
		}
		s = now
	}
	if errors.Is(err, state.ErrNotFound) && !s.emptied() {
		return nil, nil, fmt.Errorf("group record: %w", err)
	}
	return nil, nil, &movedError{} // the sender object is read from the server and may be newer
}
