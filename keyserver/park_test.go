package keyserver_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// A long-poll is answered as any request is, in the form that was asked for,
// and leaves the request as it was: whoever stands in front sees no difference.
func TestLongPollAnswersAsItWasAsked(t *testing.T) {
	after := make(chan http.Header, 1)
	w := &world{t: t, clock: newClock()}
	w.Server = keyservertest.NewServer(t, keyservertest.Options{
		Server: keyserver.Options{Now: w.clock.now, Origins: []string{"https://mail.example.org"}},
		Wrap: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(out, r)
				if r.URL.Query().Get("wait") != "" {
					after <- r.Header.Clone()
				}
			})
		},
	})
	w.c = w.Client()
	p, sender := w.person("alice"), w.person("bob")
	ask := func(wait string) chan *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.URL+"/v1/delivery/email/alice@example.org?wait="+wait, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{
			"Authorization": {"Bearer " + p.token()}, "Cookie": {"a=b"}, "Accept": {"application/cbor"}, "Origin": {"https://mail.example.org"}, "X-Twice": {"1", "2"},
		}
		answers := make(chan *http.Response, 1)
		go func() {
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
			}
			answers <- resp
		}()
		return answers
	}
	answered := ask("60")
	w.awaitPolls(1)
	w.clock.advance(time.Hour) // the token's time is over; its session is there
	sender.session, _ = sender.login(sender.device, sender.auth)
	g := newGroup()
	c := g.create(sender.account, "one")
	c.Recipients = append(c.Recipients, p.account)
	sender.mustCommit(g, c)
	resp := <-answered
	if resp == nil {
		t.FailNow()
	}
	defer resp.Body.Close()
	h := resp.Header
	if resp.StatusCode != 200 || h.Get("Content-Type") != "application/cbor" || h.Get("Access-Control-Allow-Origin") != "https://mail.example.org" ||
		!slices.Equal(h.Values("Vary"), []string{"Origin"}) || h.Get("Cache-Control") != "no-store" || resp.ContentLength < 50 {
		t.Errorf("answer %d, %d octets, %v", resp.StatusCode, resp.ContentLength, h)
	}
	if h := <-after; h.Get("Accept") != "application/cbor" || !slices.Equal(h.Values("X-Twice"), []string{"1", "2"}) {
		t.Errorf("headers of the request afterwards: %v", h)
	}
}

// A request that waits has looked for its session, its account and the room of
// its user before, and gives the room back whatever comes.
func TestLongPollsThatMayNotWait(t *testing.T) {
	l := keyservertest.Unlimited()
	l.LongPolls = 1
	w := newWorld(t, keyserver.Options{Limits: l})
	p, other := w.person("alice"), w.person("bob")
	poll := func(p *person, of keyapi.Account, query string) int {
		r := httptest.NewRequest("GET", "/v1/delivery/email/"+of.ID+"?"+query, nil)
		r.Header.Set("Authorization", "Bearer "+p.token())
		return serve(w, r)
	}
	for range 3 { // one at a time: each gives its place back
		for name, row := range map[string]struct {
			code int
			of   keyapi.Account
			q    string
		}{
			"the own inbox": {200, p.account, "wait=1"}, "of somebody else": {403, other.account, "wait=60"}, "too long": {400, p.account, "wait=61"},
			"no number": {400, p.account, "wait=x"}, "unknown parameter": {400, p.account, "waits=1"}, "after": {200, p.account, "after=1&wait=0"},
		} {
			if code := poll(p, row.of, row.q); code != row.code {
				t.Errorf("%s: %d, want %d", name, code, row.code)
			}
		}
	}
	if n := w.Handler.Waiting(); n != 0 {
		t.Errorf("%d wait still", n)
	}
}
