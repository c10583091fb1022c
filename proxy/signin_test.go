package proxy

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/imapd"
)

// TestBackgroundSignInRefused: the connections of the gateway's own tell a wrong
// password from a provider that takes no further one, as those of mail programs
// do.
func TestBackgroundSignInRefused(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]error{
		"NO [LIMIT] too many":          imapd.ErrNotNow,
		"NO [AUTHENTICATIONFAILED] no": imapd.ErrLogin,
		"BAD what":                     imapd.ErrLogin,
	} {
		err := refusedLogin(refusedFor(answer))
		if !errors.Is(err, want) || errors.Is(err, imapd.ErrLogin) != (want == imapd.ErrLogin) || !errors.Is(err, errRefused) {
			t.Errorf("%s: %v, want %v", answer, err, want)
		}
	}
}
