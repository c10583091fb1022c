//go:build crashpoints && weakkdf

package model

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// liar is the key server of a history in which it lies: the real one, with a man in
// the middle of every exchange who remembers all that he has seen.
type liar struct {
	w      *world
	middle evil.Middle
	lies   []*lie
	told   bool // there was a lie
	ended  bool // there will be none any more, and the truth is served
	// past are the states of each user that there were, oldest first.
	past map[string][]evil.State
	// delivered is what was ever delivered to somebody, by account.
	delivered map[keyapi.Account][]keyapi.Delivery
	kept      map[keyapi.Account]map[uint64]keyapi.Delivery // of that, what was kept back, or altered
	claimed   map[keyapi.Account][][]byte                   // KeyPackages that were handed out
	thief     *thief
	unread    []unread
	forks     []*fork // that are shown
	opened    []*fork // that there ever were
	copies    int
	split     bool                              // siblings, or members, were shown different truths
	apart     map[cloudmls.ConversationID]*user // who is to replace a group that parted
	turn      int
	mended    int  // messages from this one on are of after everything was brought in order
	late      bool // nothing that members do by themselves is waited for any more
	doubled   bool // two Commits were accepted for one epoch
	// opened0 are conversations as they stood, by group and epoch.
	opened0 map[string]*keyserver.Conversation
	// ownUse is what was used once by a device, by its name.
	ownUse map[string]bool
	// warned are the conversations of which a user's devices have said that something
	// was refused, is missing, or was repaired.
	warned map[*user]map[cloudmls.ConversationID]bool
}

// unread is a message whose sender could not read it at once.
type unread struct {
	d      *device
	t      *talk
	text   string
	sealed []byte
	knew   map[cloudmls.Account]string
}

func newLiar(w *world) (*liar, error) {
	l := &liar{
		w: w, past: map[string][]evil.State{}, delivered: map[keyapi.Account][]keyapi.Delivery{},
		kept: map[keyapi.Account]map[uint64]keyapi.Delivery{}, claimed: map[keyapi.Account][][]byte{},
		opened0: map[string]*keyserver.Conversation{}, ownUse: map[string]bool{},
		warned: map[*user]map[cloudmls.ConversationID]bool{},
	}
	l.thief = &thief{l: l, forged: map[string]bool{}, identities: map[cloudmls.Account][]byte{}}
	for _, u := range w.users {
		if err := l.remember(u.name); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// lying tells whether what happens now may be due to a lie.
func (w *world) lying() bool { return w.liar != nil && w.liar.told && !w.liar.ended }

// lied tells whether there was ever a lie.
func (w *world) lied() bool { return w.liar != nil && w.liar.told }

// remember copies the objects of a user as they are now.
func (l *liar) remember(user string) error {
	s, err := evil.ReadObjects(context.Background(), l.w.store, user)
	if err != nil {
		return err
	}
	l.past[user] = append(l.past[user], s)
	return nil
}

// now is the true state of a user.
func (l *liar) now(user string) evil.State { return l.past[user][len(l.past[user])-1] }

// older is a former one.
func (l *liar) older(user string, back int) evil.State {
	return l.past[user][max(0, len(l.past[user])-1-back)]
}

// maxRequests is how many requests one operation may make. The most that an honest
// history has ever taken is a tenth of that.
const maxRequests = 3000

// answer has the key server answer, or the man in the middle.
func (l *liar) answer(x *letter) (*http.Response, error) {
	if f := x.by.frame; f != nil && f.requests > maxRequests {
		panic(fmt.Sprintf("defect: %s: more than %d requests in %s", x.by.name, maxRequests, f.step))
	}
	e, err := evil.NewExchange(x.by.name, x.request())
	if err != nil {
		return nil, err
	}
	l.search(e)
	l.middle.Pass(e, func() {
		if other := l.seen(x.by.name); other != nil {
			x.by.forked = true
			e.Serve(other.server)
			l.follow(e)
			return
		}
		e.Serve(l.w.server)
		l.overhear(x.by.u, e)
	})
	l.hears(x.by, e)
	if e.Status == 0 {
		return nil, errNetwork
	}
	rec := httptest.NewRecorder()
	for k, v := range e.Header {
		rec.Header()[k] = v
	}
	rec.WriteHeader(e.Status)
	rec.Write(e.Answered)
	return rec.Result(), nil
}

// overhear takes note of what an honest server has answered.
func (l *liar) overhear(u *user, e *evil.Exchange) {
	if e.Status != http.StatusOK {
		return
	}
	switch {
	case e.Method == http.MethodPost && (e.Path == "/v1/tx" || e.Path == "/v1/auth/password"):
		if err := l.remember(u.name); err != nil {
			l.w.fail("%s: %v", e.Path, err)
		}
		if c := l.follow(e); c != nil && len(c.Notice) == 0 {
			l.noteEpoch(c)
		}
	case e.Method == http.MethodPost && strings.HasPrefix(e.Path, "/v1/keypackages/") && strings.HasSuffix(e.Path, "/claim"):
		var k keyapi.ClaimedKeyPackage
		if json.Unmarshal(e.Answered, &k) == nil {
			a := accountOf(e.Path)
			l.claimed[a] = append(l.claimed[a], k.KeyPackage)
		}
	case e.Method == http.MethodGet && strings.HasPrefix(e.Path, "/v1/delivery/"):
		var p keyapi.Deliveries
		if json.Unmarshal(e.Answered, &p) != nil {
			return
		}
		a := accountOf(e.Path)
		for _, d := range p.Messages {
			if list := l.delivered[a]; len(list) == 0 || list[len(list)-1].Seq < d.Seq {
				l.delivered[a] = append(list, d)
			}
		}
	}
}

// follow has the thief hear what was submitted, if anything was.
func (l *liar) follow(e *evil.Exchange) *keyapi.CommitSubmission {
	var t keyapi.Tx
	if e.Path != "/v1/tx" || e.Status != http.StatusOK || json.Unmarshal(e.Sent, &t) != nil || t.Commit == nil {
		return nil
	}
	l.thief.overhear(t.Commit)
	return t.Commit
}

// accountOf gives the account of a path such as /v1/delivery/chat/account of a.
func accountOf(path string) keyapi.Account {
	part := strings.Split(path, "/")
	return keyapi.Account{Platform: part[3], ID: part[4]}
}

// listen takes note of what a device has told its user.
func (l *liar) listen(d *device) {
	if d.client == nil {
		return
	}
	s, err := d.status()
	if err != nil {
		return // others tell, or it does later
	}
	if l.warned[d.u] == nil {
		l.warned[d.u] = map[cloudmls.ConversationID]bool{}
	}
	for _, p := range s.Problems {
		l.warned[d.u][p.Conversation] = true
	}
	for _, n := range s.Notices {
		switch n.Kind {
		case cloudmls.NoticeBroken, cloudmls.NoticeStalled, cloudmls.NoticeFork, cloudmls.NoticeRepaired, cloudmls.NoticeReplaced:
			l.warned[d.u][n.Conversation] = true
		}
	}
}

// excused tells whether a member need not be able to read a message: the thief does
// in their place, or they were told that something is wrong with the conversation.
func (l *liar) excused(u *user, m *message) bool {
	if l == nil {
		return false
	}
	if l.mended > 0 && m.n >= l.mended {
		return false
	}
	return m.forked || slices.Contains(m.stolen, u.self) || l.warned[u][m.id]
}

// keep notes that a device was not given this delivery as it is.
func (l *liar) keep(a keyapi.Account, d keyapi.Delivery) {
	if l.kept[a] == nil {
		l.kept[a] = map[uint64]keyapi.Delivery{}
	}
	l.kept[a][d.Seq] = d
}

// confess delivers, at last, what was kept back and is not there to be read any more.
func (l *liar) confess() {
	for _, u := range l.w.users {
		a := u.self
		var seqs []uint64
		for seq := range l.kept[a] {
			seqs = append(seqs, seq)
		}
		slices.Sort(seqs)
		err := l.w.store.Update(context.Background(), func(w keyserver.Writer) error {
			waiting, err := w.Deliveries(a, 0, 1<<20, 1<<40)
			if err != nil {
				return err
			}
			for _, seq := range seqs {
				d := l.kept[a][seq]
				if slices.ContainsFunc(waiting, func(x keyapi.Delivery) bool { return x.Seq == seq }) {
					continue
				}
				if err := w.Deliver(&d, keyserver.UserID{}, []keyapi.Account{a}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			l.w.fail("deliver what was kept back: %v", err)
		}
	}
}

// marks are what no key server must ever see: what every message begins with, and
// every password, however they are written.
var marks = func() (all [][]byte) {
	for _, s := range []string{"message ", "password "} {
		all = append(all, []byte(s), []byte(hex.EncodeToString([]byte(s))))
		for skip := range 3 { // by the place that it begins at, in groups of three octets
			b := base64.RawStdEncoding.EncodeToString(append(make([]byte, skip), s...))
			all = append(all, []byte(b[(8*skip+5)/6:8*(skip+len(s))/6]))
		}
	}
	return all
}()

// search looks for them in a request, and for the key of the device's store.
func (l *liar) search(e *evil.Exchange) {
	b := e.Octets()
	for _, m := range marks {
		if bytes.Contains(b, m) {
			l.w.fail("%s: %s %s shows %q", e.Device, e.Method, e.Path, m)
		}
	}
	key := vaultKey(e.Device)
	for _, s := range []string{string(key), hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key)[:40]} {
		if bytes.Contains(b, []byte(s)) {
			l.w.fail("%s: %s %s shows a key of the device", e.Device, e.Method, e.Path)
		}
	}
}
