package hostile

import (
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/benchkeyserver/process"
)

func TestMain(m *testing.M) {
	process.MaybeServe()
	os.Exit(m.Run())
}
