// Package policy holds the tables of the relay: which capabilities it passes,
// handles or hides, how it treats each command and FETCH item, and which
// keywords are its own. Pure data and look-ups.
package policy

import "strings"

// The keywords that the gateway sets on sealed messages.
const (
	KeywordEncrypted = "$MLSEncrypted"
	KeywordVerified  = "$MLSVerified"
	KeywordWarning   = "$MLSWarning"
)

// Keywords lists the gateway's own keywords in the order in which they are
// shown.
var Keywords = [...]string{KeywordEncrypted, KeywordVerified, KeywordWarning}

// IsOwnKeyword tells whether a flag is one of ours; flags compare without
// regard to case (RFC 9051 section 2.3.2).
func IsOwnKeyword(flag string) bool {
	if len(flag) < len(KeywordWarning) || flag[0] != '$' {
		return false
	}
	for _, k := range Keywords {
		if strings.EqualFold(k, flag) {
			return true
		}
	}
	return false
}
