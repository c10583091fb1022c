package policy

import (
	"strconv"
	"strings"
)

// Treatment is how a capability of the provider is shown to mail clients.
type Treatment int

const (
	// Pass shows it: it works through the relay because it touches neither
	// sealed content nor the connection itself.
	Pass Treatment = iota
	// Handle shows it because the relay takes part in it.
	Handle
	// Hide does not show it.
	Hide
)

// CapabilityRow says how one capability is treated and why.
type CapabilityRow struct {
	// Name is in capitals. One that ends in "=" stands for every capability with
	// that beginning.
	Name      string
	Treatment Treatment
	Reason    string
}

// Capabilities is what is not simply passed, in the order of the documentation
// (docs/imap-capabilities.md is made from it).
var Capabilities = []CapabilityRow{
	{"STARTTLS", Hide, "belongs to one connection; the listener has TLS from the first octet"},
	{"AUTH=", Hide, "belongs to one connection; the gateway offers PLAIN and LOGIN itself"},
	{"SASL-IR", Hide, "the gateway's own before sign-in, of no use after it"},
	{"LOGINDISABLED", Hide, "belongs to one connection"},
	{"LOGIN-REFERRALS", Hide, "the client would leave the gateway for another server"},
	{"MAILBOX-REFERRALS", Hide, "the client would leave the gateway for another server"},
	{"UNAUTHENTICATE", Hide, "the account of a connection never changes"},
	{"COMPRESS=", Hide, "useless on loopback, and nothing could be read between the two sides"},
	{"LITERAL+", Handle, "always offered; the gateway itself asks the provider before it sends a literal, uploads aside"},
	{"LITERAL-", Handle, "LITERAL+ includes it"},
	{"APPENDLIMIT=", Handle, "scaled down to what fits after encryption"},

	{"CATENATE", Hide, "content would be put together at the provider, past the encryption"},
	{"URLAUTH", Hide, "content would leave the provider past the gateway"},
	{"URLAUTH=", Hide, "content would leave the provider past the gateway"},
	{"URL-PARTIAL", Hide, "goes with URLAUTH and CATENATE"},
	{"BURL", Hide, "content would leave the provider past the gateway"},
	{"CONVERT", Hide, "the provider would convert ciphertext"},
	{"MULTIAPPEND", Hide, "one APPEND is one message to encrypt"},
	{"REPLACE", Hide, "an upload in a form that the gateway does not encrypt"},
	{"FILTERS", Hide, "filters stored at the provider see ciphertext"},

	{"BINARY", Hide, "parts of encrypted messages are not made in this form"},
	{"PREVIEW", Hide, "the provider would preview ciphertext"},
	{"PREVIEW=", Hide, "the provider would preview ciphertext"},
	{"SNIPPET=", Hide, "the provider would preview ciphertext"},
	{"ANNOTATE-EXPERIMENT-1", Hide, "annotations of parts would name those of the ciphertext"},
	{"IMAP4REV2", Hide, "implies BINARY and UTF-8 strings"},
	{"UTF8=", Hide, "changes the form of strings in both directions"},
	{"NOTIFY", Hide, "brings content without a command that asks for it"},
	{"CONTEXT=", Hide, "lasting searches would be answered from ciphertext"},
	{"UIDONLY", Hide, "answers without message numbers"},
	{"PARTIAL", Hide, "counts over plain and encrypted messages together"},
}

// Capability returns the treatment of one capability.
func Capability(name string) Treatment {
	name = strings.ToUpper(name)
	family := name
	if i := strings.IndexByte(name, '='); i >= 0 {
		family = name[:i+1]
	}
	for _, row := range Capabilities {
		if row.Name == name || row.Name == family {
			return row.Treatment
		}
	}
	return Pass
}

// FilterCapabilities returns what a client that has signed in is shown of the
// provider's capabilities: in their order, LITERAL+ always among them, since
// the relay takes such literals whatever the provider does.
func FilterCapabilities(upstream []string) []string {
	out := make([]string, 0, len(upstream)+1)
	for _, c := range upstream {
		switch {
		case len(c) > len(appendLimit) && strings.EqualFold(c[:len(appendLimit)], appendLimit):
			out = append(out, c[:len(appendLimit)]+scaleLimit(c[len(appendLimit):]))
		case Capability(c) == Pass:
			out = append(out, c)
		}
	}
	return append(out, "LITERAL+")
}

const appendLimit = "APPENDLIMIT="

// scaleLimit returns how large an upload may be whose sealed form fits into
// the provider's limit: base64 in lines makes 57 octets 78, and control part
// and headers take some more.
func scaleLimit(limit string) string {
	const overhead = 128 << 10
	n, err := strconv.ParseInt(limit, 10, 64)
	if err != nil {
		return limit
	}
	return strconv.FormatInt(max(n-overhead, 0)/78*57, 10)
}

// Greeting is what a client is shown before it signs in.
var Greeting = []string{"IMAP4rev1", "SASL-IR", "LITERAL+", "ID", "ENABLE", "AUTH=PLAIN", "AUTH=LOGIN"}
