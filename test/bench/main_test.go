package bench

import (
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// lab is started once, by TestMain, before any benchmark runs.
var lab = &stack.Lab{}

func TestMain(m *testing.M) { os.Exit(lab.Main(m, "mbsync")) }
