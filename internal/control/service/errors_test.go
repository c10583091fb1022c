package service

import (
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
)

// A key that its owner has replaced is not one to compare and accept.
func TestRetiredKeyIsDescribed(t *testing.T) {
	bob := cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: "bob@example.net"}
	for retired, want := range map[bool]string{true: "cloudmls conversation remove ID bob@example.net", false: "cloudmls contact code bob@example.net"} {
		e := describe(&cloudmls.IdentityChangedError{Account: bob, Retired: retired})
		if !strings.Contains(e.Message, bob.ID) || !strings.Contains(e.Hint, want) {
			t.Errorf("retired %v: %q, %q", retired, e.Message, e.Hint)
		}
	}
	e := describe(&cloudmls.IdentityChangedError{Account: bob, Verified: true, Settled: true})
	if !strings.Contains(e.Message, bob.ID) || !strings.Contains(e.Hint, "cloudmls conversation remove ID bob@example.net") {
		t.Errorf("settled: %q, %q", e.Message, e.Hint)
	}
}
