// Package e2e runs the program itself against real servers: Dovecot and Postfix
// of the mail lab as providers, swaks, curl, mbsync and Python as mail clients.
package e2e

import (
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// lab is started once, by TestMain, before any test runs.
var lab = &stack.Lab{}

func TestMain(m *testing.M) { os.Exit(lab.Main(m, "mbsync", "gpgv")) }
