// Package thunderbird drives a real, unmodified Thunderbird (test/tbdriver)
// through gateways that are processes of their own, against the mail lab's
// Dovecot and Postfix, and checks each action on the provider's side too.
package thunderbird

import (
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// lab is started once, by TestMain, before any test runs.
var lab = &stack.Lab{}

func TestMain(m *testing.M) { os.Exit(lab.Main(m, "thunderbird", "Xvfb", "node", "convert")) }
