// Package mailseal writes and reads the mail format: a message sealed into a
// multipart/encrypted message with a control part and an age bulk part.
//
// It knows no MLS: the octets of the control part are made by a callback of
// the caller from the control record, and opened by the caller before
// ParseControl. The format is specified in docs/spec/mail-format.md.
package mailseal
