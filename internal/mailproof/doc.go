// Package mailproof is the mail by which a key server proves that a mailbox is
// a user's: how it is written, how the gateway tells a genuine one from
// everything else, and how it finds it in the user's own mailbox. A person who
// has no gateway types the code that stands in the text.
//
// The server sends half of a challenge (token1) by mail and the other half over
// TLS; the answer is signed over both by the identity key, so that whoever reads
// the mail alone, or can ask for it alone, has nothing.
package mailproof
