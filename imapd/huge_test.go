package imapd_test

import (
	"strings"
	"testing"
)

// TestHugeStructureBlocksNoMailbox: a message that somebody sent with a structure
// longer than one response may be is no sealed one, and its mailbox opens.
func TestHugeStructureBlocksNoMailbox(t *testing.T) {
	long := strings.Repeat("x", 5<<20)
	for name, structure := range map[string]string{
		"in one line":      `("TEXT" "PLAIN" ("NAME" "` + long + `") NIL NIL "7BIT" 3 1)`,
		"in a literal":     "(\"TEXT\" \"PLAIN\" (\"NAME\" {5242880}\r\n" + long + ") NIL NIL \"7BIT\" 3 1)",
		"behind a literal": "(\"TEXT\" \"PLAIN\" (\"NAME\" {1}\r\nx \"B\" \"" + long + "\" \"C\" {1}\r\nx) NIL NIL \"7BIT\" 3 1)",
		"in lines":         "(\"TEXT\" \"PLAIN\" (\"NAME\" \"" + long + "\" \"B\" {3}\r\n* 1 \"C\" \"" + long + "\") NIL NIL \"7BIT\" 3 1)",
	} {
		t.Run(name, func(t *testing.T) {
			answers := twoMessages("")
			answers["FETCH 1:2 (UID BODYSTRUCTURE)"] = "* 2 FETCH (UID 20 BODYSTRUCTURE " + structure + ")\r\n* 1 FETCH (UID 10 BODYSTRUCTURE " + sealedStructure + ")\r\nTAG OK done\r\n"
			answers["FETCH 2 (FLAGS)"] = "* 2 FETCH (FLAGS (\\Seen))\r\nTAG OK done\r\n"
			c, _ := relayedTo(t, answers)
			if got := said(c, "FETCH 2 (FLAGS)"); got != "* 2 FETCH (FLAGS (\\Seen))\r\nn OK done\r\n" {
				t.Errorf("the client reads %.200q", got)
			}
		})
	}
}
