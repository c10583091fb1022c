// Package keys derives and wraps the keys of a user.
//
//	password → Argon2id → HKDF → AUTH (to the server) | wrap key pair, authenticator
//	recovery code → HKDF → wrap key pair, authenticator
//	device seed → HKDF → wrap key pair, authenticator
//	ROOT_v (random) is sealed to these key pairs
//	ROOT_v → HKDF → one key per purpose
//
// The password itself, and the key stretched from it, never leave this
// package. All derivations are bound to the configured origin of the key server
// and to the user id, so that what one server learns is useless at another.
package keys
