// Package control is how commands talk to the running gateway: JSON over HTTP
// on a Unix socket in the data folder, for the same user of the machine only.
//
//	ln, err := control.Listen(filepath.Join(dataDir, control.SocketName)) // the gateway
//	err = control.Serve(ctx, ln, service, log)
//
//	client, err := control.Dial(ctx, socket)    // a command
//	if errors.Is(err, control.ErrNotRunning) {} // ask a Service in this process
//	status, err := client.Status(ctx)
//
// A Client is a Service, so a command runs the same code against the running
// gateway and against a Service opened in its own process.
//
// # Wire
//
// One POST per call to /v1/OPERATION, request and answer one JSON object each.
// Unknown fields, doubled ones and octets behind the object are refused. An
// error is an object {code, message, hint} with a status of 400 or more, and
// comes back as *Error. Both sides bound what they read and how long they wait.
// Secrets cross the socket in requests only and are never logged.
//
// # Who may connect
//
// The socket has mode 0600 in a folder that only its owner may enter. Where the
// system tells the user at the other end (Linux), both sides refuse everybody
// else. A socket file that nobody listens on, as kill -9 leaves it, is replaced;
// a live one never is. Two gateways that start at once are kept apart by the
// lock of the local store, which is taken before.
package control
