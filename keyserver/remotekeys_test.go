package keyserver

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

type keysOf struct{ list []byte }

func (k *keysOf) Do(*http.Request) (*http.Response, error) {
	time.Sleep(time.Millisecond) // others ask meanwhile
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(k.list))}, nil
}

// TestRemoteKeysAreSharedByRequests: many requests look for a key while one of them
// fetches the keys anew; all find it. The race detector has the last word.
func TestRemoteKeysAreSharedByRequests(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(keyapi.TokenKeys{Issuer: "https://auth.example", Keys: []keyapi.TokenKey{keyapi.NewTokenKey("k", public)}})
	if err != nil {
		t.Fatal(err)
	}
	var passed atomic.Int64
	begin := time.Now()
	now := func() time.Time { return begin.Add(time.Duration(passed.Load())) }
	a := newRemoteAuth(RemoteAuth{URL: "https://auth.example", Origin: "https://auth.example", Client: &keysOf{list}}, now)
	if k, err := a.public(t.Context(), "k"); err != nil || !bytes.Equal(k, public) {
		t.Fatalf("%x, %v", k, err)
	}
	passed.Store(int64(remoteKeysLive - time.Second))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				passed.Add(int64(time.Millisecond))
				if k, err := a.public(t.Context(), "k"); err == nil && !bytes.Equal(k, public) {
					t.Errorf("key %x", k)
				}
			}
		})
	}
	all.Wait()
}
