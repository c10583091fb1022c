// Package mime finds every part and line of a message by offset.
//
// Parse reads a message once, in constant memory, and returns a tree of parts
// whose offsets point into the message: nothing is decoded, copied or
// normalised, so a section served from the offsets is byte-exact. Envelope and
// BodyStructure derive from the kept header octets what an IMAP server answers
// (RFC 9051 sections 7.5.2, 2.3.5, 2.3.6); where RFC and practice leave room,
// they answer as Dovecot 2.3 does, so that clients see what they are used to.
//
//	root, err := mime.Parse(r, size, mime.DefaultLimits)
//	p := root.Find([]int{1, 2})       // BODY[1.2]
//	env := root.Envelope()
//	bs := root.BodyStructure()
//
// CRLF and bare LF both end a line. Broken messages are not an error: they
// have some structure, the one this package reports. Messages beyond the
// limits are: see LimitError.
package mime
