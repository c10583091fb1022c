// Package envelope implements CMS1, the sealed form of everything that
// CloudMLS stores at a key server or on disk. The format is specified, with
// test vectors, in docs/spec/cms1.md.
//
// An envelope is bound to a [Context], which the reader supplies from what it
// asked for and never from the envelope: an object served in another's place
// does not open. The [Header] is what only the writer knows; it is readable
// without a key (it selects the key), authenticated, and compared by [Open]
// with what the reader expects.
//
// Each envelope has its own random salt and therefore its own key, so there is
// no nonce to manage and none to repeat. The key is committed to: no envelope
// opens under two keys, which would let a server test passwords by the
// envelopes that a client accepts. Sizes are padded with Padmé.
package envelope
