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

// capabilities lists what is not simply passed. A name that ends in "=" stands
// for every capability with that beginning.
var capabilities = map[string]Treatment{
	// Of this connection, not of the provider's: the relay has its own.
	"STARTTLS":          Hide,
	"AUTH=":             Hide,
	"SASL-IR":           Hide, // ours before login, of no use after it
	"LOGINDISABLED":     Hide,
	"LOGIN-REFERRALS":   Hide, // the client would leave the relay
	"MAILBOX-REFERRALS": Hide,
	"UNAUTHENTICATE":    Hide, // the account of a connection never changes
	"COMPRESS=":         Hide, // useless on loopback, opaque to the relay
	"LITERAL+":          Handle,
	"LITERAL-":          Handle,

	// Content would leave or reach the provider past the sealing.
	"CATENATE":    Hide,
	"URLAUTH":     Hide,
	"URLAUTH=":    Hide,
	"URL-PARTIAL": Hide,
	"BURL":        Hide,
	"CONVERT":     Hide,
	"MULTIAPPEND": Hide, // one APPEND, one sealed message
	"REPLACE":     Hide,
	"FILTERS":     Hide,

	// Answers about sealed messages would come from the ciphertext, in forms
	// that the overlay does not make.
	"BINARY":                Hide,
	"PREVIEW":               Hide,
	"PREVIEW=":              Hide,
	"SNIPPET=":              Hide,
	"ANNOTATE-EXPERIMENT-1": Hide,
	"IMAP4REV2":             Hide, // implies BINARY and UTF-8 strings
	"UTF8=":                 Hide, // changes string forms in both directions
	"NOTIFY":                Hide, // FETCH responses without a FETCH command
	"CONTEXT=":              Hide,
	"UIDONLY":               Hide, // responses without sequence numbers
	"PARTIAL":               Hide, // counts over plain and sealed messages together
	"INPROGRESS":            Pass,
}

// Capability returns the treatment of one capability.
func Capability(name string) Treatment {
	name = strings.ToUpper(name)
	if t, ok := capabilities[name]; ok {
		return t
	}
	if i := strings.IndexByte(name, '='); i >= 0 {
		return capabilities[name[:i+1]]
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
		case Capability(c) != Pass:
		case len(c) > len(appendLimit) && strings.EqualFold(c[:len(appendLimit)], appendLimit):
			out = append(out, c[:len(appendLimit)]+scaleLimit(c[len(appendLimit):]))
		default:
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
