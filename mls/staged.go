package mls

import (
	"bytes"
	"fmt"
)

// StagedCommit is a Commit, made or received, that was found valid but has not
// taken effect. It refers to the epoch before it.
type StagedCommit struct {
	base []byte // interim transcript hash of the epoch it follows
	next *Group // nil if the Commit removes this member
}

// Group returns the group as it will be after Merge, or nil if the Commit
// removes this member. It is a copy, meant for storage before the Commit is
// published: Merge does not see what is done with it.
func (c *StagedCommit) Group() *Group {
	if c.next == nil {
		return nil
	}
	return c.next.Clone()
}

// Merge makes a Commit take effect, after the delivery service accepted it.
// The secrets of the old epoch leave the group. It fails with ErrStaleCommit
// if the group has moved on since the Commit was staged.
func (g *Group) Merge(c *StagedCommit) error {
	if g.left {
		return fmt.Errorf("merge commit: %w", ErrNotMember)
	}
	if !bytes.Equal(c.base, g.interim) {
		return fmt.Errorf("merge commit: %w", ErrStaleCommit)
	}
	if c.next == nil {
		g.leave()
		return nil
	}
	validate, psks, external := g.validate, g.psks, g.external
	*g = *c.next.Clone()
	g.validate, g.psks, g.external = validate, psks, external
	return nil
}

// leave forgets all secrets.
func (g *Group) leave() {
	g.left = true
	g.secrets = epochSecrets{}
	g.keys = &secretTree{}
	g.private = nil
	g.signature = nil
	g.proposals = nil
	g.updates = nil
}
