// Package imapd serves IMAP (RFC 9051, RFC 3501) to mail clients on this
// machine by relaying each connection to the provider's server: verbatim,
// except what touches a sealed message or uploads content. Sealed messages are
// opened, and uploads sealed, by a Backend; imapd knows nothing of how.
//
//	mail client  <--IMAP-->  session  <--IMAP-->  provider
//	                            |
//	                         Backend (open, seal)
//
// One client connection is one connection to the provider; UIDs, sequence
// numbers, MODSEQ and unsolicited data stay the provider's. The parts: wire
// (lines and literals), policy (tables: what passes, what is handled, what is
// hidden), overlay (FETCH items of an opened message), session (the pair of
// connections).
//
// Limits: SEARCH, SORT and THREAD see the outer data of sealed messages.
package imapd
