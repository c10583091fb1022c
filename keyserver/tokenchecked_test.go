package keyserver_test

import (
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// TestTokenRemembered: a token that was found good a moment ago counts no longer
// than it says, not before its time, and not beyond its session.
func TestTokenRemembered(t *testing.T) {
	w := newWorld(t, keyserver.Options{TokenLifetime: 30 * time.Second})
	p := w.person("anna")
	ask := func() error {
		_, err := w.c.Accounts(t.Context(), p.token())
		return err
	}
	for range 2 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.advance(-time.Hour)
	if err := ask(); !keyclient.IsCode(err, keyapi.CodeUnauthorized) {
		t.Errorf("an hour before it was issued: %v", err)
	}
	w.clock.advance(time.Hour + 29*time.Second)
	if err := ask(); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	w.clock.advance(time.Second)
	if err := ask(); !keyclient.IsCode(err, keyapi.CodeUnauthorized) {
		t.Errorf("at its end: %v", err)
	}
	w.clock.advance(-10 * time.Second)
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Logout(t.Context(), p.token()); err != nil {
		t.Fatal(err)
	}
	if err := ask(); !keyclient.IsCode(err, keyapi.CodeUnauthorized) {
		t.Errorf("after logout: %v", err)
	}
}
