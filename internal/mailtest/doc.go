// Package mailtest is a mail provider in memory: an IMAP server and a
// submission server on loopback, for tests and for the demonstration.
//
// Several providers that share a [World] hand mail over to one another, each
// for its own domain. Everything a provider ever got can be read back octet by
// octet ([Provider.Messages], [Provider.Everything]), so a test can search it
// for what must not be there, and [Provider.Inject] makes it fail at a chosen
// point.
//
// The IMAP side is go-imap's memory server; what that lacks (special-use
// mailboxes, raw access, faults) is added around its session. It is a stand-in
// and not a measure of byte exactness: headers that are no headers at all are
// not served as they were stored.
package mailtest
