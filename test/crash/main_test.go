// Package crash kills the gateway and the key server of a busy system, at
// random moments and at every crash point (docs/crash-points.md), and makes the
// providers, the key server and the disks fail. Nothing that was answered 250
// may be lost, nothing sent twice without a mark, nothing in clear.
//
// CLOUDMLS_SOAK=30m goes on killing with further seeds for that time; without it
// one seed is run.
package crash

import (
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// lab is started once, by TestMain, before any test runs. Its program can be
// told to crash.
var lab = &stack.Lab{Tags: "crashpoints"}

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }
