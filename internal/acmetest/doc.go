// Package acmetest is a small ACME directory (RFC 8555) for tests: accounts and
// requests signed with ES256, single-use nonces, one kind of proof (tls-alpn-01,
// RFC 8737), certificates from an authority of its own. It checks what a real
// directory would refuse.
package acmetest
