// Package thunderbird drives a real, unmodified Thunderbird (test/tbdriver)
// through gateways that are processes of their own, against the mail lab's
// Dovecot and Postfix, and checks each action on the provider's side too.
//
// The whole takes about two minutes. One scenario needs the set-up before it:
//
//	go test ./test/thunderbird -v -run 'TestThunderbird/(set-up|drafting)$'
//
// Lines that begin with "thunderbird-" are measured figures; nothing fails for
// their sake.
package thunderbird

import (
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// lab is started once, by TestMain, before any test runs.
var lab = &stack.Lab{}

func TestMain(m *testing.M) { os.Exit(lab.Main(m, "thunderbird", "Xvfb", "node", "convert")) }
