// Package evil is a key server that speaks the real API and lies: a real key
// server over a bbolt file, with a man in the middle in front of it who also has
// the store in his hands. It is what the threat list means by "E", and serves
// tests of the SDK, the proxy and whatever else talks to a key server.
//
//	s := evil.NewServer(t, evil.Options{})
//	laptop, phone := s.Client("laptop"), s.Client("phone")
//	...
//	lie := s.Start(evil.Attack{On: evil.To("POST", "/v1/tx"), Times: 1, Do: evil.LoseAnswer})
//	...
//	if lie.Hits() != 1 { ... }
//	lie.Stop()
//
// Three kinds of lies go together as a test needs them:
//
//   - faults.go: answers that a key server does not give: 404, 500, HTML, empty,
//     cut off, redirects; requests that arrive twice, late or not at all.
//   - lies.go, deliveries.go: well-formed answers that are not true. Edit changes
//     one type of answer; the others are made with it.
//   - state.go, show.go: another truth. Objects, instances and inboxes are set as a test
//     likes, and devices are shown worlds that have nothing to do with each other
//     any more (Fork), each of which goes on as an honest server would.
//
// A test that has no network of its own for the requests uses Middle, State and Show
// without a Server (test/model).
//
// Devices are told apart by the URL that their Client has; so a lie can be for
// one of them alone (From).
package evil
