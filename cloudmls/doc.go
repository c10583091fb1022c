// Package cloudmls is the SDK: it keeps a user's end-to-end encrypted
// conversations in step across devices, and encrypts and decrypts for each of
// them. It knows neither mail nor any messenger; whoever carries the messages
// (a mail gateway, a messenger) calls three things:
//
//	state, err := client.Ensure(ctx, self, conversation)      // create it, add who is missing
//	sealed, err := client.Encrypt(ctx, self, state.ID, text, nil)
//	plain, err := client.Decrypt(ctx, self, sealed)
//
// A user signs in with name and password, on any number of devices. The MLS
// state (RFC 9420) lies sealed on the key server as objects changed only by
// compare-and-swap, so that each device continues where another stopped, and a
// new one reads the whole history with the password alone. All devices of a
// user share one MLS leaf per account and group.
//
// Beside these a program runs, for each of the user's accounts, as long as it is online:
//
//	for client.Wait(ctx, self) == nil {           // something came
//		result, err := client.Sync(ctx, self)      // tell people result.Notices, Replaced, Rotated
//		refs, err := client.Retryable(ctx, self)   // messages that may open now: Decrypt again
//	}
//
// and once an hour Client.Maintain, which keeps keys fresh and deletes what history
// policies say (Client.DeletedHistory). Wait fails where the key server cannot be reached;
// it is called again after a pause. Client.Events is what people should be told of their
// own devices and keys.
//
// # Rules
//
// Fail closed: every call that cannot do what it promises returns an error and
// never plaintext; a missing or failing key server is never taken for "no
// account" or "no conversation".
//
// Persist before publishing: private parts of KeyPackages are stored before
// the public parts are uploaded, the next epoch's state in the same
// transaction that publishes its Commit, a block of generations before the
// first ciphertext of it is made.
//
// Reading writes nothing to the key server of the messages that are read. Two
// things that it comes upon are written: the key server's word on a sender's
// identity key, and what a Sync brings for a group or an epoch that is not known.
//
// # Concurrency
//
// A Client is safe for concurrent use and starts no goroutines. Calls on one
// conversation of one account wait for each other; others run in parallel.
//
// # Errors
//
// Errors are told apart with errors.Is and errors.As. Where the key server could not be
// asked, they match what Options.Server gives for that: keyclient.ErrUnavailable.
// What it refused is a *keyapi.Problem, by its Code. A call whose context ended matches
// the context's error; what it was about to do may have been done, and every call can
// be made again.
//
// # Limits of this version
//
// Correspondents use one key server. Identity keys are pinned at first use, and
// pins follow keys that the pinned one has signed; there is no key transparency
// log yet.
package cloudmls
