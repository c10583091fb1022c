// Package world is a whole world on loopback: mail providers in memory, a key
// server on a file, and people with gateways on one or more devices. The
// demonstration plays its story in one; package gatewaytest wraps it for tests.
//
//	w, err := world.New(ctx, world.Options{Dir: dir, People: []world.Spec{
//		{Name: "alice", Address: "alice@example.org"},
//		{Name: "bob", Address: "bob@example.net"},
//		{Name: "oscar", Address: "oscar@example.com", Outsider: true},
//	}})
//	defer w.Close()
//	alice := w.Person("alice")
//	err = alice.Device().Mail().Send(ctx, "alice@example.org", []string{"bob@example.net"}, message)
//	got, err := w.Person("bob").Device().Mail().List(ctx, "INBOX")
//
// Everything is the real thing but the providers: mail programs speak SMTP and
// IMAP over TLS with the gateways, gateways with the providers, and HTTP with
// the key server. Parts can be stopped and started, and the key server's
// answers replaced.
package world
