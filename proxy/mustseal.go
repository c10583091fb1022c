package proxy

import (
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/smtpd"
)

var _ smtpd.MustSealer = smtpAccount{}

// MustSeal says that the account's policy forbids mail in clear to rcpt. What
// conversations and pins forbid shows after the content.
func (a smtpAccount) MustSeal(rcpt string) bool {
	id, err := groupid.Canonical(rcpt)
	if err != nil {
		return false // checkRecipient has refused it
	}
	mode, _ := a.now.Load().rules.mode(id)
	return mode == ModeRequire
}
