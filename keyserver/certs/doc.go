// Package certs provides a key server's TLS certificate: from files, read again
// when they change, or from an ACME directory (RFC 8555), obtained and renewed
// by itself.
package certs
