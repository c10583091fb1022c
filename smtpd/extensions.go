package smtpd

import (
	"fmt"
	"slices"
	"strings"
)

// Extension is a service extension of SMTP and what becomes of it between a
// mail client and its provider. EHLO comes before the login, so the offer is
// the same for every account; what the account's provider lacks is refused when
// it is asked for.
type Extension struct {
	Keyword string
	RFC     int // 0: none
	Offered bool
	// Does is what happens, or why it is not offered.
	Does string
}

// Extensions is the table of docs/smtp-extensions.md.
func Extensions() []Extension {
	return []Extension{
		{"8BITMIME", 6152, true, "Sealed mail is 7-bit outside, whatever is inside. Mail in clear that holds 8-bit octets is refused after the content (554 5.6.3) if the provider lacks it: before, nobody knows whether it will be sealed."},
		{"AUTH", 4954, true, "PLAIN and LOGIN with the password of the mail client. At the provider the gateway logs in by itself; AUTH= at MAIL is dropped."},
		{"BINARYMIME", 3030, false, "Few providers take it, and mail in clear must pass unchanged."},
		{"BURL", 4468, false, "The content would come from the provider's IMAP server, where it lies sealed."},
		{"CHUNKING", 3030, true, "BDAT is taken from the client; the provider gets DATA."},
		{"DELIVERBY", 2852, false, "A deadline cannot be kept by copies that wait in the outbox."},
		{"DSN", 3461, true, "RET, ENVID, NOTIFY and ORCPT are passed on, for the copies in the outbox as well. Refused at MAIL or RCPT (555 5.5.4) if the provider lacks it."},
		{"ENHANCEDSTATUSCODES", 2034, true, "The provider's own codes are passed on; a reply without one stays without."},
		{"ETRN", 1985, false, "For relays."},
		{"FUTURERELEASE", 4865, false, "What is sealed today could not be read by somebody who is added until then."},
		{"LIMITS", 9422, true, fmt.Sprintf("RCPTMAX=%d.", MaxRecipients)},
		{"MT-PRIORITY", 6710, false, "For relays of closed networks."},
		{"PIPELINING", 2920, true, "Commands may come together; the provider gets one after the other."},
		{"REQUIRETLS", 8689, false, "Few providers offer it. The connection to the provider is always protected."},
		{"RRVS", 7293, false, "Addresses are held against pinned identities instead."},
		{"SIZE", 1870, true, "The gateway's own limit. Refused at MAIL (552 5.3.4) if the declared size is above what the account's provider takes; above what fits once sealed it is refused at RCPT if the policy has mail to the recipient always encrypted, else after the content if it came to that."},
		{"SMTPUTF8", 6531, true, "Refused at MAIL (550 5.6.7) if the provider lacks it."},
		{"STARTTLS", 3207, false, "The listener speaks TLS from the first octet."},
		{"VRFY", 5321, false, "Answered 252 without looking."},
		{"XCLIENT", 0, false, "For relays."},
	}
}

// announced reports whether an extension is offered.
func announced(keyword string) bool {
	return slices.ContainsFunc(Extensions(), func(e Extension) bool { return e.Keyword == keyword && e.Offered })
}

// ExtensionsTable is the table of docs/smtp-extensions.md, in Markdown.
func ExtensionsTable() string {
	var b strings.Builder
	b.WriteString("| extension | RFC | offered | what happens |\n|---|---|---|---|\n")
	for _, e := range Extensions() {
		rfc, offered := "–", "no"
		if e.RFC != 0 {
			rfc = fmt.Sprint(e.RFC)
		}
		if e.Offered {
			offered = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", e.Keyword, rfc, offered, e.Does)
	}
	return b.String()
}
