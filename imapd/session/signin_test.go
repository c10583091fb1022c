package session

import (
	"errors"
	"testing"
)

// TestSignInError: what a provider refuses for other reasons than the password
// asks nobody for another one.
func TestSignInError(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"[LIMIT] Maximum number of connections exceeded": ErrNotNow,
		"[UNAVAILABLE] Temporary authentication failure": ErrNotNow,
		"[unavailable] try again":                        ErrNotNow,
		"[INUSE] mailbox is locked":                      ErrNotNow,
		"[SERVERBUG]":                                    ErrNotNow,
		"[AUTHENTICATIONFAILED] Authentication failed.":  ErrLogin,
		"[EXPIRED] password":                             ErrLogin,
		"[ALERT] app password needed":                    ErrLogin,
		"[LIMIT":                                         ErrLogin,
		"LIMIT] x":                                       ErrLogin,
		"Invalid credentials [LIMIT] of patience":        ErrLogin,
		"": ErrLogin,
	} {
		if got := SignInError(text); !errors.Is(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
