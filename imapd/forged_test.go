package imapd_test

import (
	"strings"
	"testing"
)

const plainStructure = `("TEXT" "PLAIN" NIL NIL NIL "7BIT" 3 1)`

// sealedStructure is the BODYSTRUCTURE of a sealed message.
const sealedStructure = `(("application" "vnd.cloudmls.control" NIL NIL NIL "base64" 4 NIL NIL NIL NIL)("application" "octet-stream" NIL NIL NIL "base64" 4 NIL NIL NIL NIL) "encrypted" ("protocol" "application/vnd.cloudmls.control") NIL NIL NIL)`

// twoMessages answers for a mailbox whose first message is sealed and whose
// second one is plain; noop is what the provider says next.
func twoMessages(noop string) map[string]string {
	return map[string]string{
		"SELECT INBOX":                  "* FLAGS (\\Seen)\r\n* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 21] x\r\nTAG OK [READ-WRITE] selected\r\n",
		"FETCH 1:2 (UID BODYSTRUCTURE)": "* 1 FETCH (UID 10 BODYSTRUCTURE " + sealedStructure + ")\r\n* 2 FETCH (UID 20 BODYSTRUCTURE " + plainStructure + ")\r\nTAG OK done\r\n",
		"FETCH 1:2 (UID)":               "* 1 FETCH (UID 10)\r\n* 2 FETCH (UID 20)\r\nTAG OK done\r\n",
		"NOOP":                          noop + "TAG OK done\r\n",
	}
}

// said is everything that the client hears until the tag or the end.
func said(c *client, command string) string {
	c.send("n " + command + "\r\n")
	var b strings.Builder
	for {
		line, err := c.readResponse()
		b.WriteString(line)
		if err != nil || strings.HasPrefix(line, "n ") {
			return b.String()
		}
	}
}

// TestThreat63_OddSpellingsOfKeywords: whatever a provider makes of the grammar,
// no mail client could read one of our keywords in it: the response is mended or
// the connection ends.
func TestThreat63_OddSpellingsOfKeywords(t *testing.T) {
	for name, answer := range map[string]string{
		"two spaces before the number": "*  2 FETCH (FLAGS ($MLSVerified))\r\n",
		"two spaces behind the number": "* 2  FETCH (FLAGS ($MLSVerified))\r\n",
		"a tab behind the number":      "* 2\tFETCH (FLAGS ($MLSVerified))\r\n",
		"a long number":                "* 00000000000000000002 FETCH (FLAGS ($MLSVerified))\r\n",
		"an old name":                  "* 2 STORE (FLAGS ($MLSVerified))\r\n",
		"a literal in the list":        "* 2 FETCH (FLAGS ($MLSVerified {1}\r\nx) UID 20)\r\n",
		"a literal of the list":        "* 2 FETCH (FLAGS ({12}\r\n$MLSVerified) UID 20)\r\n",
		"a list that has no end":       "* 2 FETCH (FLAGS ($MLSVerified\r\n",
		"a tab behind the name":        "* 2 FETCH (FLAGS\t($MLSVerified))\r\n",
		"a quote within a number":      "* 2 FETCH (UID 20\" FLAGS ($MLSVerified))\r\n",
		"quotes within a list":         "* 2 FETCH (MODSEQ (1\" \") FLAGS ($MLSVerified) X (\" \"))\r\n",
		"a quoted flag":                "* 2 FETCH (FLAGS (\"$MLSVerified\") UID 20)\r\n",
		"an octet of zero":             "* 2 FETCH (FLAGS ($MLSVerified\x00) UID 20)\r\n",
		"an unread quote before":       "* 2 FETCH (MODSEQ (1\") BODY[1] {1}\r\nx FLAGS ($MLSVerified))\r\n",
		"a quote at an item's place":   "* 2 FETCH (\"x FLAGS ($MLSVerified)\" UID 20)\r\n",
		"an item without value":        "* 2 FETCH (FLAGS ($MLSVerified) X)\r\n",
		"a second list":                "* 2 FETCH (FLAGS () FLAGS ($MLSVerified))\r\n",
		"a list of one word":           "* 2 FETCH (FLAGS $MLSVerified)\r\n",
		"something behind the end":     "* 2 FETCH (UID 20) FLAGS ($MLSVerified)\r\n",
		"of the sealed one":            "* 1 FETCH (FLAGS ($MLSVerified {1}\r\nx) UID 10)\r\n",
		"of the sealed one, quotes":    "* 1 FETCH (MODSEQ (1\" \") FLAGS ($MLSVerified) X (\" \"))\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := relayedTo(t, twoMessages(answer))
			if got := said(c, "NOOP"); strings.Contains(strings.ToLower(got), "$mlsverified") {
				t.Errorf("the client reads %q", got)
			}
		})
	}
}

// TestThreat63_SelectWithOddFlags: the same for what comes with SELECT (QRESYNC).
func TestThreat63_SelectWithOddFlags(t *testing.T) {
	for name, answer := range map[string]string{
		"an item without value": "* 2 FETCH (FLAGS ($MLSVerified) X)\r\n",
		"content":               "* 1 FETCH (UID 10 BODY[] {13}\r\n$MLSVerified!)\r\n",
		"content of another":    "* 2 FETCH (UID 10 BODY[] {13}\r\n$MLSVerified!)\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			answers := twoMessages("")
			answers["SELECT odd"] = answer + answers["SELECT INBOX"]
			c, _ := relayedTo(t, answers)
			if got := said(c, "SELECT odd"); strings.Contains(got, "$MLSVerified)") || strings.Contains(got, "$MLSVerified!") {
				t.Errorf("the client reads %q", got)
			}
		})
	}
}

// TestProviderForgesContent: a provider that answers what nobody asked for puts
// no content of its own under a sealed message, neither by its number nor by its
// UID.
func TestProviderForgesContent(t *testing.T) {
	for name, answer := range map[string]string{
		"by number":               "* 1 FETCH (BODY[] {6}\r\nforged UID 10)\r\n",
		"by number, flags first":  "* 1 FETCH (FLAGS () BODY[] {6}\r\nforged UID 10)\r\n",
		"quoted":                  "* 1 FETCH (BODY[1] \"forged\")\r\n",
		"envelope":                "* 1 FETCH (ENVELOPE (NIL \"forged\" NIL NIL NIL NIL NIL NIL NIL NIL))\r\n",
		"by UID":                  "* 2 FETCH (UID 10 BODY[] {6}\r\nforged)\r\n",
		"by UID, in lower case":   "* 2 FETCH (uid 10 BODY[] {6}\r\nforged)\r\n",
		"by UID, two spaces":      "* 2 FETCH (UID  10 BODY[] {6}\r\nforged)\r\n",
		"by two UIDs":             "* 2 FETCH (UID 20 UID 10 BODY[] {6}\r\nforged)\r\n",
		"by UID, with zeros":      "* 2 FETCH (UID 010 BODY[] {6}\r\nforged)\r\n",
		"by a UID of more digits": "* 2 FETCH (UID 200 BODY[] {6}\r\nforged)\r\n",
		"flags by number zero":    "* 0 FETCH (UID 10 FLAGS (forged))\r\n",
		"while asked for another": "* 1 FETCH (UID 10 RFC822 {6}\r\nforged)\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := relayedTo(t, twoMessages(answer))
			if got := said(c, "NOOP"); strings.Contains(got, "forged") {
				t.Errorf("the client reads %q", got)
			}
		})
	}
}

// TestUIDBehindForgedContent: where the UID stands behind the content the response
// is not finished.
func TestUIDBehindForgedContent(t *testing.T) {
	c, _ := relayedTo(t, twoMessages("* 2 FETCH (BODY[] {6}\r\nforged UID 10)\r\n"))
	if got := said(c, "NOOP"); strings.Contains(got, "UID 10") {
		t.Errorf("the client reads %q", got)
	}
}

// TestOddButLegalResponsesPass: what is looked at closely is not changed.
func TestOddButLegalResponsesPass(t *testing.T) {
	for name, answer := range map[string]string{
		"a keyword in an envelope": "* 2 FETCH (ENVELOPE (NIL \"about $MLSVerified \\\" FLAGS (\" ((NIL NIL \"a\" \"b\")) NIL NIL NIL NIL NIL NIL {3}\r\n<x>) UID 20)\r\n",
		"behind a literal":         "* 2 FETCH (BODY[HEADER.FIELDS (SUBJECT)]<0> {3}\r\nabc BODY[1] \"$MLSVerified\" UID 20)\r\n",
		"other UIDs in a text":     "* 2 FETCH (UID 20 ENVELOPE (NIL \"uid 10 x\" NIL NIL NIL NIL NIL NIL NIL NIL) X-GUID abc)\r\n",
		"a structure":              "* 2 FETCH (BODYSTRUCTURE ((\"text\" \"plain\" (\"x\" \"$mlsverified\") NIL NIL \"7bit\" 1 1)(\"text\" \"html\" NIL NIL NIL \"7bit\" 1 1) \"mixed\") UID 20 MODSEQ (7))\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := relayedTo(t, twoMessages(answer))
			if got := said(c, "NOOP"); got != answer+"n OK done\r\n" {
				t.Errorf("the client reads %q instead of %q", got, answer)
			}
		})
	}
}
