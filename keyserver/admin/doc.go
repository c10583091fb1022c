// Package admin is how an operator's commands reach a key server: directly
// where the store lets another process in, else through a Unix socket of the
// running server, for the same user of the machine only (package
// internal/control guards the socket).
//
//	err := admin.Serve(ctx, listener, service)          // the server
//	operator := admin.NewClient(dial)                   // a command
//	info, err := operator.User(ctx, "alice")
//
// # Wire
//
// One POST per call to /v1/OPERATION with a JSON object; the answer is a JSON
// value, or, of export and backup, octets followed by the trailer
// Cloudmls-Complete: yes. Without that trailer they are not whole. An error is
// {"error": "..."} with a status of 400 or more.
package admin
