package differential

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/imapd/policy"
)

// normalisations are what cannot be equal, each with its reason. Nothing else
// may differ.
var normalisations = []struct {
	why     string
	pattern *regexp.Regexp
	with    string
}{
	{"how long the provider took is not the gateway's to keep equal",
		regexp.MustCompile(` ?\(\d+\.\d+ \+ \d+\.\d+( \+ \d+\.\d+)? secs\)`), ""},
	{"SAVEDATE is the moment at which the mailbox got its copy",
		regexp.MustCompile(`SAVEDATE "[^"]*"`), `SAVEDATE "…"`},
	{"\\Marked and \\UnMarked tell how fresh the provider's own index of a mailbox is, and are there or not",
		regexp.MustCompile(` ?\\(Unm|UnM|M)arked`), ""},
}

func normalise(l string) string {
	for _, n := range normalisations {
		l = n.pattern.ReplaceAllString(l, n.with)
	}
	return l
}

var capabilityList = regexp.MustCompile(`^\* CAPABILITY [^\r]*`)

// likeGateway applies the capability table to what the provider said.
func likeGateway(l string) string {
	return capabilityList.ReplaceAllStringFunc(l, func(list string) string {
		names := strings.Fields(list)[2:]
		return "* CAPABILITY " + strings.Join(policy.FilterCapabilities(names), " ")
	})
}

// highestModSeq is in the answer to whichever command happens to bring changes,
// and that may be one of the gateway's own, which then tells of it by itself.
var highestModSeq = regexp.MustCompile(`^\* OK \[HIGHESTMODSEQ \d+\] `)

// withoutHighest drops HIGHESTMODSEQ where it does not belong to a SELECT.
func withoutHighest(st *step, got []string) []string {
	if slices.ContainsFunc(st.burst, func(c *command) bool { return c.name == "SELECT" || c.name == "EXAMINE" }) {
		return got
	}
	got = slices.DeleteFunc(slices.Clone(got), highestModSeq.MatchString)
	for i, l := range got {
		got[i] = highest.ReplaceAllString(l, "$1")
	}
	return got
}

// changes are the responses by which the provider tells what became of the
// mailbox, new keywords among it. It merges those of several commands.
var changes = regexp.MustCompile(`^\* (FLAGS .*|OK \[(PERMANENTFLAGS|HIGHESTMODSEQ) .*|\d+ (EXISTS|RECENT|EXPUNGE)|VANISHED [\d,:]+|\d+ FETCH \((FLAGS \([^)]*\)|UID \d+|MODSEQ \(\d+\)| )*\))\r\n$`)

// highest is told by that command of several which happens to bring the changes.
var highest = regexp.MustCompile(`^([^* ]+ OK )\[HIGHESTMODSEQ \d+\] `)

// modSeq may be that before or after another command of the burst.
var modSeq = regexp.MustCompile(`MODSEQ \(?\d+\)?`)

// anyOrder returns the responses of a wild burst without their order, and
// without the changes: when the commands reach the provider decides about both.
// What the changes come to is compared behind the burst.
func anyOrder(got []string) []string {
	kept := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return changes.MatchString(l) || l == ambiguity })
	for i, l := range kept {
		kept[i] = modSeq.ReplaceAllString(highest.ReplaceAllString(l, "$1"), "MODSEQ …")
	}
	slices.Sort(kept)
	return kept
}

// ambiguity is what this Dovecot remarks when it finds certain commands together
// in what it has read at once.
const ambiguity = "* BAD [CLIENTBUG] Command pipelining results in ambiguity.\r\n"

// taggedApart moves the tagged responses of a burst behind the others and the
// continuation requests before them: its commands change nothing, but the provider
// answers one while it still works on another, and the gateway asks for a literal
// without waiting for the commands before it.
func taggedApart(got []string) []string {
	var requests, untagged, tagged []string
	for _, l := range got {
		switch {
		case l == ambiguity:
		case strings.HasPrefix(l, "+"):
			requests = append(requests, l)
		case strings.HasPrefix(l, "* "):
			untagged = append(untagged, l)
		default:
			tagged = append(tagged, l)
		}
	}
	slices.Sort(tagged)
	// It also runs other commands while a long FETCH waits for the network.
	slices.SortStableFunc(untagged, func(a, b string) int { return strings.Compare(kind(a), kind(b)) })
	return slices.Concat(requests, untagged, tagged)
}

// kind is the name of an untagged response: FETCH, LIST, STATUS.
func kind(l string) string {
	f := strings.Fields(l[:min(len(l), 60)])
	if len(f) > 2 && f[1][0] >= '0' && f[1][0] <= '9' {
		return f[2]
	}
	return f[1]
}
