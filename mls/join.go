package mls

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// JoinOptions are what joining takes besides the Welcome.
type JoinOptions struct {
	Secrets *KeyPackageSecrets
	// Now is the current time. It is used only if CheckLifetimes is set: a
	// Welcome that the delivery service accepted is not refused for the age of
	// somebody's leaf.
	Now            time.Time
	CheckLifetimes bool
	// Validate is the Authentication Service. It is required.
	Validate CredentialValidator
	// RatchetTree is the tree in the form of the ratchet_tree extension, where
	// the Welcome does not carry it.
	RatchetTree []byte
	// PSKs finds pre-shared keys; nil means that there are none.
	PSKs PSKSource
	// Predecessor is the group that this one was made from by Branch or
	// Reinitialize, in the epoch in which that happened: Welcomes of such
	// groups are refused without it, with ErrMissingPSK.
	Predecessor *Group
	// SameMember reports whether a member of Predecessor and one of the new
	// group are the same; nil means that their credentials are equal.
	SameMember func(old, joined Member) bool
	// SignedBy is told which member signed the GroupInfo, and so made the
	// Welcome, once everything is verified; nil means nobody is told.
	SignedBy func(Member)
	// Parallel is the number of goroutines to verify the members' leaves on; 0
	// and 1 mean none but the caller's. The result does not depend on it, and
	// Validate, PSKs and SameMember are called by the caller's alone.
	Parallel int
}

// JoinWelcome joins the group that a Welcome invites to, after verifying
// everything of RFC 9420 section 12.4.3.1. It fails with ErrWrongKeyPackage if
// the Welcome is not for o.Secrets. The caller makes sure that it is in no
// other group of the same id, and deletes the secrets once the group is
// stored, unless the KeyPackage is one of last resort.
func JoinWelcome(w *Message, o JoinOptions) (*Group, error) {
	if w == nil || w.welcome == nil {
		return nil, fmt.Errorf("join: message is not a welcome")
	}
	if o.Validate == nil {
		return nil, fmt.Errorf("join: %w", errNoValidator)
	}
	if o.Secrets == nil {
		return nil, fmt.Errorf("join: key package secrets are required")
	}
	g, err := join(w.welcome, &o)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	return g, nil
}

func join(w *welcome, o *JoinOptions) (*Group, error) {
	kp := o.Secrets.keyPackage
	s, err := kp.suite.suite()
	if err != nil {
		return nil, err
	}
	secrets, err := w.groupSecrets(s, o.Secrets)
	if err != nil {
		return nil, err
	}
	psk, err := joinPSK(s, secrets, o)
	if err != nil {
		return nil, err
	}
	info, err := w.groupInfo(s, secrets.joinerSecret, psk.secret)
	if err != nil {
		return nil, err
	}
	tree, err := info.ratchetTree(o.RatchetTree)
	if err != nil {
		return nil, err
	}
	if g := info.context.suite; g != kp.suite {
		return nil, invalid("12.4.3.1", "cipher suite of the group is not the key package's")
	}
	if err := info.check(s, tree, &kp.leaf, workers(o.Parallel)); err != nil {
		return nil, err
	}
	if err := psk.checkLink(&info.context, tree, o); err != nil {
		return nil, err
	}
	own, err := tree.find(&kp.leaf)
	if err != nil {
		return nil, err
	}
	g := &Group{
		suite:     s,
		context:   info.context,
		tree:      tree,
		own:       own,
		signature: slices.Clone(o.Secrets.signaturePrivate),
		private:   privateKeys{own.node(): o.Secrets.encryptionPrivate},
		updates:   map[ProposalRef]pendingUpdate{},
		validate:  o.Validate,
		psks:      o.PSKs,
	}
	if err := g.checkJoined(); err != nil {
		return nil, err
	}
	if o.CheckLifetimes {
		if err := tree.checkLifetimes(o.Now); err != nil {
			return nil, err
		}
	}
	if err := g.takePathSecret(info.signer, secrets.pathSecret); err != nil {
		return nil, err
	}
	epoch, err := newEpoch(s, secrets.joinerSecret, psk.secret, &g.context)
	if err != nil {
		return nil, err
	}
	if !s.VerifyMAC(epoch.confirmation, g.context.transcriptHash, info.confirmationTag) {
		return nil, invalid("12.4.3.1", "confirmation tag does not verify")
	}
	g.enter(epoch, info.confirmationTag)
	if m, ok := g.Member(info.signer); ok && o.SignedBy != nil {
		o.SignedBy(m)
	}
	return g, nil
}

// groupSecrets finds and decrypts the entry for a KeyPackage.
func (w *welcome) groupSecrets(s *labeled.Suite, k *KeyPackageSecrets) (*groupSecrets, error) {
	if uint16(w.suite) != s.ID {
		return nil, invalidBecause("12.4.3.1", "cipher suite of the welcome is not the key package's", ErrWrongKeyPackage)
	}
	ref := k.Ref()
	at := slices.IndexFunc(w.secrets, func(e encryptedGroupSecrets) bool { return e.newMember == ref })
	if at < 0 {
		return nil, ErrWrongKeyPackage
	}
	c := w.secrets[at].ciphertext
	plaintext, err := s.Decrypt(k.initPrivate, k.keyPackage.initKey, "Welcome", w.encryptedGroupInfo, c.kemOutput, c.ciphertext)
	if err != nil {
		return nil, invalidBecause("12.4.3.1", "group secrets", err)
	}
	secrets := new(groupSecrets)
	if err := decode(plaintext, secrets); err != nil {
		return nil, invalidBecause("12.4.3.1", "group secrets are malformed", err)
	}
	if len(secrets.joinerSecret) != s.Nh {
		return nil, invalid("12.4.3.1", "joiner secret has the wrong length")
	}
	return secrets, nil
}

// groupInfo decrypts the GroupInfo of a Welcome.
func (w *welcome) groupInfo(s *labeled.Suite, joiner, psk []byte) (*groupInfo, error) {
	k, err := welcomeKey(s, joiner, psk)
	if err != nil {
		return nil, err
	}
	plaintext, err := s.AEADOpen(k.key, k.nonce, nil, w.encryptedGroupInfo)
	if err != nil {
		return nil, invalidBecause("12.4.3.1", "group info", err)
	}
	info := new(groupInfo)
	if err := decode(plaintext, info); err != nil {
		return nil, invalidBecause("12.4.3.1", "group info is malformed", err)
	}
	return info, nil
}

// ratchetTree decodes the tree that the GroupInfo carries, or the given one.
func (g *groupInfo) ratchetTree(given []byte) (*ratchetTree, error) {
	data, ok := findExtension(g.extensions, ExtensionRatchetTree)
	if !ok {
		data = given
	}
	if len(data) == 0 {
		return nil, invalid("12.4.3.1", "ratchet tree is missing")
	}
	return parseRatchetTree(bytes.Clone(data))
}

// check verifies the GroupInfo and the tree against each other, before
// anything is believed.
func (g *groupInfo) check(s *labeled.Suite, t *ratchetTree, joiner *leafNode, w workers) error {
	signer := t.leaf(g.signer)
	if signer == nil {
		return invalid("12.4.3.1", "signer of the group info is not a member")
	}
	if err := g.verify(s, signer.signatureKey); err != nil {
		return err
	}
	t.hashSubtrees(s, w)
	if !bytes.Equal(t.rootHash(s), g.context.treeHash) {
		return invalid("12.4.3.1", "tree hash does not match the ratchet tree")
	}
	// RFC 9420 section 13.4: what the group uses, the joiner must support.
	if err := joiner.supports(g.context.extensions); err != nil {
		return err
	}
	return t.verifyJoined(s, &g.context, w)
}

// find returns the leaf that is identical to the given one.
func (t *ratchetTree) find(leaf *leafNode) (own LeafIndex, err error) {
	found := false
	t.members(func(i LeafIndex, l *leafNode) {
		// The encryption key is unique in the tree.
		if bytes.Equal(l.encryptionKey, leaf.encryptionKey) && l.equal(leaf) {
			own, found = i, true
		}
	})
	if !found {
		return 0, invalid("12.4.3.1", "own leaf is not in the tree")
	}
	return own, nil
}

// checkJoined asks the Authentication Service about all members and about the
// external senders.
func (g *Group) checkJoined() (err error) {
	g.tree.members(func(_ LeafIndex, l *leafNode) {
		if err == nil {
			err = g.checkCredential(l, CredentialInJoin, nil)
		}
	})
	if err != nil {
		return err
	}
	return g.checkExternalSenders(g.context.extensions)
}

// checkLifetimes checks the leaves that still are as their KeyPackage was.
func (t *ratchetTree) checkLifetimes(now time.Time) (err error) {
	t.members(func(_ LeafIndex, l *leafNode) {
		if l.source == sourceKeyPackage && !l.lifetime.Contains(now) {
			err = invalid("7.3", "lifetime does not include the current time")
		}
	})
	return err
}

// takePathSecret stores the private keys that follow from the path secret of a
// Welcome; nil means that the Commit had no path.
func (g *Group) takePathSecret(signer LeafIndex, secret []byte) error {
	if secret == nil {
		return nil
	}
	if signer == g.own {
		return invalid("12.4.3.1", "signer of the group info is the joiner")
	}
	ancestor := treemath.CommonAncestor(g.own.node(), signer.node())
	path := []pathNode{{node: ancestor}}
	for _, n := range ancestor.DirectPath(g.tree.size()) {
		if !g.tree.blank(n) {
			path = append(path, pathNode{node: n})
		}
	}
	_, err := derivePath(g.suite, g.tree, path, g.private, secret)
	return err
}
