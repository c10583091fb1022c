package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
)

// requests counts what is asked of the key server, long polls aside.
type requests struct {
	mu   sync.Mutex
	seen map[string]int
}

func (r *requests) intercept(_ http.ResponseWriter, q *http.Request) bool {
	what := q.Method + " " + strings.Join(strings.SplitN(q.URL.Path, "/", 4)[:3], "/")
	if q.URL.Query().Get("wait") == "" || q.URL.Query().Get("wait") == "0" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen[what]++
	}
	return false
}

func (r *requests) reset() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.seen
	r.seen = map[string]int{}
	return before
}

// TestWarmMessageCostsOneSync: in a dialog that both are in, a message asks the
// key server for news once and for the person not at all.
func TestWarmMessageCostsOneSync(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Send("alice", letter("first", alice, bob))
	opens(t, w, "bob", "INBOX", letter("first", alice, bob))
	w.Send("alice", letter("second", alice, bob))
	r := &requests{seen: map[string]int{}}
	w.KeyServer().Intercept(r.intercept)
	const n = 10
	for i := range n {
		w.Send("alice", letter(fmt.Sprintf("warm-%d", i), alice, bob))
	}
	w.KeyServer().Intercept(nil)
	seen := r.reset()
	if seen["GET /v1/reachable"] > 0 {
		t.Errorf("the key server was asked for the person %d times", seen["GET /v1/reachable"])
	}
	if got := seen["GET /v1/delivery"]; got < n || got > n+2 {
		t.Errorf("%d Syncs for %d messages: %v", got, n, seen)
	}
}

// TestThreat48_ChangedIdentityIsNoticedWithinMinutes: a key that changed at the
// key server refuses the next message once the answer before is five minutes
// old; until then messages go to those who were in the dialog before.
func TestThreat48_ChangedIdentityIsNoticedWithinMinutes(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	w := gatewaytest.New(t, gatewaytest.Options{
		People: gatewaytest.Three(), Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	w.Send("alice", letter("first", alice, bob))
	opens(t, w, "bob", "INBOX", letter("first", alice, bob))
	other := strings.Repeat("QUFB", 10) + "QUE=" // 32 octets that nobody has the key to
	w.KeyServer().Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		id, ok := strings.CutPrefix(r.URL.Path, "/v1/reachable/email/")
		if !ok || !strings.HasPrefix(id, "bob") {
			return false
		}
		return world.Answer(http.StatusOK, "application/json",
			fmt.Sprintf(`{"account":{"platform":"email","id":%q},"has_account":true,"identity_key":%q}`, id, other))(rw, r)
	})
	soon := letter("soon", alice, bob)
	w.Send("alice", soon)
	opens(t, w, "bob", "INBOX", soon) // under the key that is pinned
	ahead.Store(int64(5*time.Minute + time.Second))
	before := len(w.Provider("example.org").Submissions())
	w.Refused("alice", letter("later", alice, bob), 451)
	nothingSent(t, w, "example.org", before)
}
