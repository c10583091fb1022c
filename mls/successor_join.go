package mls

import (
	"bytes"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// joinPSKs are the pre-shared keys of a Welcome.
type joinPSKs struct {
	secret []byte          // psk_secret
	link   *PreSharedKeyID // of usage reinit or branch; nil if there is none
}

// joinPSK finds the pre-shared keys of a Welcome and combines them. One that
// ties the group to an older one must be the only such key, and of the group
// that the joiner says it continues (RFC 9420 section 12.4.3.1).
func joinPSK(s *labeled.Suite, secrets *groupSecrets, o *JoinOptions) (*joinPSKs, error) {
	p := new(joinPSKs)
	seen := map[string]bool{}
	for i := range secrets.psks {
		id := &secrets.psks[i]
		if err := checkPSKNonce(s, id); err != nil {
			return nil, err
		}
		key := string(encode(id))
		if seen[key] {
			return nil, invalid("12.2", "pre-shared key is used twice")
		}
		seen[key] = true
		if !id.links() {
			continue
		}
		if p.link != nil {
			return nil, invalid("12.4.3.1", "two pre-shared keys of usage reinit or branch")
		}
		if !o.Predecessor.is(id) {
			return nil, invalidBecause("12.4.3.1", "group that the new one is made from is not given in that epoch", ErrMissingPSK)
		}
		p.link = id
	}
	var err error
	p.secret, err = findPSKs(s, secrets.psks, func(id PreSharedKeyID) ([]byte, error) {
		switch {
		case id.links():
			return o.Predecessor.secrets.resumption, nil
		case o.PSKs == nil:
			return nil, nil
		}
		return o.PSKs(id)
	})
	return p, err
}

// is reports whether a resumption PSK is of the group's current epoch.
func (g *Group) is(id *PreSharedKeyID) bool {
	return g != nil && !g.left && id.GroupID == g.context.groupID && id.Epoch == g.context.epoch
}

// checkLink checks a group that is being joined against the one that it was
// made from (RFC 9420 sections 11.2, 11.3 and 12.4.3.1).
func (p *joinPSKs) checkLink(c *groupContext, t *ratchetTree, o *JoinOptions) error {
	if p.link == nil {
		return nil
	}
	old := o.Predecessor
	if c.epoch != 1 {
		return invalid("12.4.3.1", "group made from another is not in epoch 1")
	}
	if p.link.Usage == ResumptionReInit {
		r := old.reinit
		switch {
		case r == nil:
			return invalid("12.4.3.1", "last commit of the old group has no reinit")
		case r.GroupID != c.groupID:
			return invalid("12.4.3.1", "group id is not that of the reinit")
		case r.Version != MLS10: // a GroupContext of another version is not decoded
			return invalid("12.4.3.1", "version is not that of the reinit")
		case r.CipherSuite != c.suite:
			return invalid("12.4.3.1", "cipher suite is not that of the reinit")
		case !equalExtensions(r.Extensions, c.extensions):
			return invalid("12.4.3.1", "extensions are not those of the reinit")
		}
	} else if old.context.suite != c.suite {
		return invalid("12.4.3.1", "cipher suite of the subgroup is not the old group's")
	}
	return old.checkRoster(p.link.Usage, t.memberList(), o.SameMember)
}

func equalExtensions(a, b []Extension) bool {
	var v, w codec.Writer
	writeExtensions(&v, a)
	writeExtensions(&w, b)
	return bytes.Equal(v.Bytes(), w.Bytes())
}
