package keyserver_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// tracedStore notes which questions about users and sessions are asked.
type tracedStore struct {
	keyserver.Store
	asked []string
}

func (s *tracedStore) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	s.asked = append(s.asked, "View")
	return s.Store.View(ctx, func(r keyserver.Reader) error { return fn(tracedReader{r, s}) })
}

func (s *tracedStore) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	s.asked = append(s.asked, "Update")
	return s.Store.Update(ctx, fn)
}

type tracedReader struct {
	keyserver.Reader
	s *tracedStore
}

func (r tracedReader) User(id keyserver.UserID) (*keyserver.User, error) {
	r.s.asked = append(r.s.asked, "User")
	return r.Reader.User(id)
}

func (r tracedReader) UserByName(name string) (*keyserver.User, error) {
	r.s.asked = append(r.s.asked, "UserByName")
	return r.Reader.UserByName(name)
}

func (r tracedReader) Sessions(id keyserver.UserID) ([]keyserver.Session, error) {
	r.s.asked = append(r.s.asked, "Sessions")
	return r.Reader.Sessions(id)
}

// Known and unknown users get answers of one status, one length and one set of
// fields, for the same work: the same questions to the store. The times of
// 1,000 answers each are compared as distributions (Kolmogorov and Smirnov),
// taken in turns so that a busy machine disturbs both alike. Chance alone gives
// 0.07 at 1,000, and a loaded machine up to 0.2; without the grid of evenly.go
// it was 0.5. One more round trip to the store, or one slow hash, gives nearly 1.
func TestThreat08_KnownAndUnknownUsersLookTheSame(t *testing.T) {
	const n = 1000
	store, err := boltstore.Open(t.TempDir() + "/keyserver.db")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	traced, clock := &tracedStore{Store: store}, newClock()
	s := newNode(t, keyserver.Options{Store: traced, Now: clock.now})
	w := s.at(t, clock)
	for i := range n {
		if i%20 == 0 {
			w.register(fmt.Sprintf("known-%04d", i))
		}
	}
	auth := strings.Repeat("A", 43) + "="
	for route, body := range map[string]string{
		"params":  `{"username":%q}`,
		"login":   `{"username":%q,"auth_version":1,"auth":"` + auth + `","device":{"name":"","key":"` + auth + `"}}`,
		"recover": `{"username":%q,"auth_version":1,"recovery_auth":"` + auth + `","device":{"name":"","key":"` + auth + `"}}`,
	} {
		ask := func(name string) (took time.Duration, shape string, asked []string) {
			r := httptest.NewRequest("POST", "/v1/auth/"+route, strings.NewReader(fmt.Sprintf(body, name)))
			rec := httptest.NewRecorder()
			traced.asked = nil
			start := time.Now()
			w.Handler.ServeHTTP(rec, r)
			took = time.Since(start)
			return took, fmt.Sprint(rec.Code, rec.Body.Len(), rec.Header(), fieldsOf(rec.Body.String())), traced.asked
		}
		var known, unknown []time.Duration
		_, wantShape, wantAsked := ask("known-0000")
		for i := range n {
			here, nowhere := fmt.Sprintf("known-%04d", i/20*20), fmt.Sprintf("other-%04d", i/20*20)
			if route != "login" && i >= n/4 {
				break // the same code as login, after all
			}
			var a, b time.Duration
			var shapeA, shapeB string
			var askedA, askedB []string
			if i%2 == 0 {
				a, shapeA, askedA = ask(here)
				b, shapeB, askedB = ask(nowhere)
			} else {
				b, shapeB, askedB = ask(nowhere)
				a, shapeA, askedA = ask(here)
			}
			known, unknown = append(known, a), append(unknown, b)
			if shapeA != wantShape || shapeB != wantShape {
				t.Fatalf("%s: answers differ:\n%s\n%s\n%s", route, wantShape, shapeA, shapeB)
			}
			if !slices.Equal(askedA, wantAsked) || !slices.Equal(askedB, wantAsked) {
				t.Fatalf("%s: the store is asked differently: %v %v", route, askedA, askedB)
			}
			clock.advance(time.Hour) // no count of tries stands in the way
		}
		d := distance(known, unknown)
		t.Logf("%s: distance of the distributions %.3f", route, d)
		if d > 0.4 {
			t.Errorf("%s: times tell known users from unknown ones: distance %.3f", route, d)
		}
	}
}

// fieldsOf are the member names of a JSON text, in order.
func fieldsOf(text string) (names []string) {
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 && !strings.ContainsAny(part, "=/+ :") {
			names = append(names, part)
		}
	}
	return slices.DeleteFunc(names, func(s string) bool { return len(s) > 24 })
}

// distance is the largest difference of two distribution functions.
func distance(a, b []time.Duration) float64 {
	slices.Sort(a)
	slices.Sort(b)
	var d float64
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		x := min(a[i], b[j])
		for i < len(a) && a[i] <= x {
			i++
		}
		for j < len(b) && b[j] <= x {
			j++
		}
		d = max(d, float64(i)/float64(len(a))-float64(j)/float64(len(b)), float64(j)/float64(len(b))-float64(i)/float64(len(a)))
	}
	return d
}

// Existence of an account is said in one place only, to who is signed in; all
// other answers about accounts of others are the same for existing ones.
func TestFlaw21_OtherRoutesDoNotTellWhoExists(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	for _, route := range []string{
		"GET /v1/keypackages/email/%s", "GET /v1/delivery/email/%s", "POST /v1/delivery/email/%s/ack", "POST /v1/keypackages/email/%s",
	} {
		method, path, _ := strings.Cut(route, " ")
		body := ""
		if method == "POST" {
			body = "{}"
		}
		if strings.HasSuffix(path, "ack") {
			body = `{"seq":0}`
		}
		there := w.ask(method, fmt.Sprintf(path, bob.account.ID), alice.token(), body)
		nobody := w.ask(method, fmt.Sprintf(path, "bop@example.org"), alice.token(), body)
		if there.Code != nobody.Code || there.Body.String() != nobody.Body.String() || !strings.Contains(there.Body.String(), keyapi.CodeForbidden) {
			t.Errorf("%s: %d %s and %d %s", route, there.Code, there.Body, nobody.Code, nobody.Body)
		}
	}
}
