package overlay

import (
	"strings"
	"testing"

	"github.com/cloudmls/gateway/internal/mime"
)

// TestRenderAsDovecot: where the grammar leaves a choice, the answer is the one
// that clients know from Dovecot.
func TestRenderAsDovecot(t *testing.T) {
	for _, c := range []struct{ header, body, want string }{
		{"Content-Language: de\r\n\r\n", "x\r\n",
			`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL ("de") NIL)`},
		{"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", "--b--\r\n",
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
	} {
		message := "MIME-Version: 1.0\r\n" + c.header + c.body
		root, err := mime.Parse(strings.NewReader(message), int64(len(message)), mime.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(AppendBodyStructure(nil, root.BodyStructure(), true)); got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.header, got, c.want)
		}
	}
}
