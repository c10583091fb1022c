// Package differential runs random IMAP commands on two identical mailboxes of
// plain mail, one directly and one through the gateway, and compares the
// octets of the answers.
//
//	go test ./test/differential/                        # 500 sequences
//	go test ./test/differential/ -sequences 20000       # more of them
//	go test ./test/differential/ -seed 4711             # one again
//
// It needs what test/e2e needs (see package stack).
package differential

import (
	"flag"
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

var (
	sequences = flag.Int("sequences", 500, "number of random sequences")
	firstSeed = flag.Uint64("first", 1, "seed of the first sequence")
	control   = flag.Bool("control", false, "compare the provider with itself: what differs then is not the gateway's")
	onlySeed  = flag.Uint64("seed", 0, "run only the sequence with this seed")

	// lab is started once, by TestMain, before any test runs.
	lab = &stack.Lab{}
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(lab.Main(m))
}
