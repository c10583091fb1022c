package policy

import "strings"

// ItemClass says who answers a FETCH item for a sealed message.
type ItemClass int

const (
	// Provider items describe the stored object, not its content: flags,
	// dates, identifiers. Unknown items count among them.
	Provider ItemClass = iota
	// Content items are answered from the opened message.
	Content
	// Unsupported items are content that the overlay does not make; the
	// capability behind them is hidden.
	Unsupported
)

// FetchItem returns the class of a FETCH item, named without section.
func FetchItem(name string) ItemClass {
	switch strings.ToUpper(name) {
	case "BODY", "BODY.PEEK", "BODYSTRUCTURE", "ENVELOPE",
		"RFC822", "RFC822.PEEK", "RFC822.HEADER", "RFC822.TEXT", "RFC822.SIZE":
		return Content
	case "BINARY", "BINARY.PEEK", "BINARY.SIZE", "PREVIEW", "SNIPPET", "ANNOTATION":
		return Unsupported
	}
	return Provider
}

// FetchMacro returns the items of a macro (RFC 9051 section 6.4.5), nil if
// name is none.
func FetchMacro(name string) []string {
	switch strings.ToUpper(name) {
	case "ALL":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"}
	case "FAST":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE"}
	case "FULL":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"}
	}
	return nil
}
