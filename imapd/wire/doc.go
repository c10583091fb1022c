// Package wire reads and writes the syntax of IMAP (RFC 9051 section 9)
// without giving it a meaning: lines cut at literals, tokens, strings, number
// sets. It serves both sides of the relay, so nothing in it depends on who
// sends.
package wire
