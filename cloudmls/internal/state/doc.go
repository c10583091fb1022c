// Package state keeps a user's sealed objects on the key server and a verified
// view of them on this device.
//
// Every object is sealed with CMS1 (package envelope) before it leaves the
// process, and changed only by compare-and-swap. One object, the head, holds
// hashes over the whole set: a key server that drops, adds, swaps or winds
// back an object is found out ([RollbackError]), and one that answers with an
// error is never taken to say "there is no such object" ([ErrNotFound] comes
// from the verified head alone).
//
// Objects of type sender are the exception: they change with every block of
// messages, so the head records only that they exist. Their counters are
// remembered by each device that saw them.
//
// What a device has seen (its floor) is durable in the [LocalStore] before
// anything depends on it.
package state
