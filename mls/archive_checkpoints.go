package mls

import "sync"

const (
	// checkpointEvery is how many generations lie between two ratchet secrets
	// that an archive record remembers: opening a message derives fewer than
	// that once its sender was seen at the same or a later generation.
	checkpointEvery = 32
	// maxCheckpoints bounds what a record remembers of all senders together, in
	// secrets, and one more for each sender: half a megabyte if they have 32 bytes,
	// and at most as much again.
	maxCheckpoints = 1 << 14
)

// checkpoints are secrets of the application ratchets of an epoch, computed
// from what its archive record holds anyway. They are never stored. The zero
// value has none; it is safe for concurrent use.
type checkpoints struct {
	mu      sync.Mutex
	senders map[LeafIndex][]byte // secrets of generations 0, checkpointEvery, …, one after the other
	count   int                  // secrets of all senders
	// latest is where each of the senders was seen last: messages mostly come, and
	// go, one after the other.
	latest map[LeafIndex]ratchetSecret
}

// ratchetSecret is the secret that the key of a generation, and the secret of
// the next one, are derived from.
type ratchetSecret struct {
	generation uint32
	secret     []byte
}

// of returns the secrets of a sender, which the caller may append to but not
// change, and the latest one, if any; those before it are among the first.
func (c *checkpoints) of(l LeafIndex) (known []byte, latest ratchetSecret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known = c.senders[l]
	return known[:len(known):len(known)], c.latest[l]
}

// keep remembers the secrets of a sender, each of size bytes, unless there are
// more of them already, and the latest one. When there would be too many in all,
// those of the others are forgotten.
func (c *checkpoints) keep(l LeafIndex, secrets []byte, latest ratchetSecret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := len(latest.secret)
	if more := (len(secrets) - len(c.senders[l])) / size; more > 0 {
		if c.senders == nil || c.count+more > maxCheckpoints {
			c.senders, c.latest, c.count, more = map[LeafIndex][]byte{}, map[LeafIndex]ratchetSecret{}, 0, len(secrets)/size
		}
		c.senders[l] = secrets
		c.count += more
	}
	c.latest[l] = latest
}

// key derives the application key of a generation from the record's secret, or
// from the last checkpoint before it.
func (a *ArchiveRecord) key(l LeafIndex, generation uint32) (messageKey, error) {
	if generation >= MaxGeneration {
		return messageKey{}, ErrGenerationTooFar
	}
	nh := a.suite.Nh
	known, latest := a.checkpoints.of(l)
	if len(known) == 0 {
		use, err := newSecretTree(a.encryptionSecret, a.leaves).open(a.suite, l)
		if err != nil {
			return messageKey{}, err
		}
		known = use.ratchets[applicationRatchet].secret
	}
	at := min(int(generation)/checkpointEvery, len(known)/nh-1)
	g, secret := uint32(at)*checkpointEvery, known[at*nh:(at+1)*nh]
	if latest.secret != nil && latest.generation > g && latest.generation <= generation {
		g, secret = latest.generation, latest.secret
	}
	for g < generation {
		var err error
		if secret, err = a.suite.DeriveTreeSecret(secret, "secret", g, nh); err != nil {
			return messageKey{}, err
		}
		if g++; g%checkpointEvery == 0 {
			known = append(known, secret...)
		}
	}
	a.checkpoints.keep(l, known, ratchetSecret{generation, secret})
	return ratchetKey(a.suite, secret, generation)
}
