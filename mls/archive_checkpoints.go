package mls

import "sync"

const (
	// checkpointEvery is how many generations lie between two ratchet secrets
	// that an archive record remembers: opening a message derives fewer than
	// that once its sender was seen at the same or a later generation.
	checkpointEvery = 32
	// maxCheckpoints bounds what a record remembers of all senders together, in
	// secrets: half a megabyte if they have 32 bytes.
	maxCheckpoints = 1 << 14
)

// checkpoints are secrets of the application ratchets of an epoch, computed
// from what its archive record holds anyway. They are never stored. The zero
// value has none; it is safe for concurrent use.
type checkpoints struct {
	mu      sync.Mutex
	senders map[LeafIndex][]byte // secrets of generations 0, checkpointEvery, …, one after the other
	count   int                  // secrets of all senders
}

// of returns the secrets of a sender, which the caller may append to but not
// change.
func (c *checkpoints) of(l LeafIndex) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.senders[l]
	return known[:len(known):len(known)]
}

// keep remembers the secrets of a sender, each of size bytes, unless there are
// more of them already. When there would be too many in all, those of the
// others are forgotten.
func (c *checkpoints) keep(l LeafIndex, secrets []byte, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	more := (len(secrets) - len(c.senders[l])) / size
	if more <= 0 {
		return
	}
	if c.senders == nil || c.count+more > maxCheckpoints {
		c.senders, c.count, more = map[LeafIndex][]byte{}, 0, len(secrets)/size
	}
	c.senders[l] = secrets
	c.count += more
}

// key derives the application key of a generation from the record's secret, or
// from the last checkpoint before it.
func (a *ArchiveRecord) key(l LeafIndex, generation uint32) (messageKey, error) {
	if generation >= MaxGeneration {
		return messageKey{}, ErrGenerationTooFar
	}
	nh := a.suite.Nh
	known := a.checkpoints.of(l)
	if len(known) == 0 {
		use, err := newSecretTree(a.encryptionSecret, a.leaves).open(a.suite, l)
		if err != nil {
			return messageKey{}, err
		}
		known = use.ratchets[applicationRatchet].secret
	}
	at := min(int(generation)/checkpointEvery, len(known)/nh-1)
	secret := known[at*nh : (at+1)*nh]
	for g := uint32(at) * checkpointEvery; g < generation; {
		var err error
		if secret, err = a.suite.DeriveTreeSecret(secret, "secret", g, nh); err != nil {
			return messageKey{}, err
		}
		if g++; g%checkpointEvery == 0 {
			known = append(known, secret...)
		}
	}
	a.checkpoints.keep(l, known, nh)
	return ratchetKey(a.suite, secret, generation)
}
