package mls

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// What a member proposes that does not fit the group, or what others proposed,
// does not stop the Commits of the others; what fits is committed.
func TestUnfitProposalsAreLeftOut(t *testing.T) {
	shared := newKey(t)
	psk := func(id string) *PreSharedKey {
		return &PreSharedKey{ID: PreSharedKeyID{Type: PSKExternal, ID: []byte(id), Nonce: make([]byte, 32)}}
	}
	add := func(change ...func(*KeyPackageOptions)) *Add {
		kp, _ := newKeyPackage(t, "new", change...)
		return &Add{KeyPackage: kp}
	}
	required := func(e ExtensionType) *GroupContextExtensions {
		return &GroupContextExtensions{Extensions: []Extension{RequiredCapabilities([]ExtensionType{e}, nil, nil)}}
	}
	for _, c := range []struct {
		name      string
		proposals func(members []*Group) []Proposal
		kept      int
	}{
		{"a member is added again", func(m []*Group) []Proposal {
			return []Proposal{add(func(o *KeyPackageOptions) { o.SignatureKey = m[3].SignatureKey() }), add()}
		}, 1},
		{"a member is removed and added anew, beside what nobody supports", func(m []*Group) []Proposal {
			again := add(func(o *KeyPackageOptions) { o.SignatureKey = m[0].SignatureKey() })
			return []Proposal{again, &Remove{Removed: 0}, required(0xf0f0)}
		}, 2},
		{"a client is added twice", func([]*Group) []Proposal {
			both := func(o *KeyPackageOptions) { o.SignatureKey = shared }
			return []Proposal{add(), add(both), add(both), add()}
		}, 3},
		{"extensions twice", func([]*Group) []Proposal {
			return []Proposal{required(ExtensionLastResort), add(), &GroupContextExtensions{}}
		}, 2},
		{"extensions that nobody supports", func([]*Group) []Proposal { return []Proposal{required(0xf0f0), add()} }, 1},
		{"key that is not known", func([]*Group) []Proposal { return []Proposal{psk("unknown"), psk("known")} }, 1},
		{"key twice", func([]*Group) []Proposal { return []Proposal{psk("known"), add(), psk("known")} }, 2},
		{"joiner without the credential type in use", func([]*Group) []Proposal {
			return []Proposal{add(func(o *KeyPackageOptions) {
				c := DefaultCapabilities(testSuite)
				c.Credentials = []CredentialType{CredentialX509}
				o.SignatureKey = shared
				o.Capabilities, o.Credential = &c, certified(t, "new", must[[]byte](t)(shared.PublicKey(testSuite)))
			}), add()}
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 4, 2)
			for _, g := range w.members {
				g.SetPSKs(func(id PreSharedKeyID) ([]byte, error) {
					if string(id.ID) == "known" {
						return []byte("key"), nil
					}
					return nil, nil
				})
			}
			for _, p := range c.proposals(w.members) {
				m := must[*Message](t)(w.members[3].Propose(p, ProposeOptions{AuthenticatedData: randomBytes(8)}))
				for _, g := range w.members[:3] {
					must[Received](t)(g.Process(m, testNow))
				}
			}
			p := w.commit(1, CommitOptions{Public: true})
			refs := 0
			for _, x := range p.Commit.public.framed.content.commit.proposals {
				if x.ref != "" {
					refs++
				}
			}
			if refs != c.kept {
				t.Errorf("%d of the proposals were committed, want %d", refs, c.kept)
			}
			must[*Message](t)(w.members[0].Protect([]byte("on we go"), ProtectOptions{}))
		})
	}
}

// A source of keys that fails is not a key that is not known: nothing is left
// out for it.
func TestFailingSourceLeavesNothingOut(t *testing.T) {
	w := newWorld(t, 2, 0)
	broken := errors.New("disk is gone")
	w.members[1].SetPSKs(func(PreSharedKeyID) ([]byte, error) { return nil, broken })
	id := PreSharedKeyID{Type: PSKExternal, ID: []byte("x"), Nonce: make([]byte, 32)}
	must[*Message](t)(w.members[1].Propose(&PreSharedKey{ID: id}, ProposeOptions{}))
	if _, err := w.members[1].Commit(CommitOptions{}); !errors.Is(err, broken) {
		t.Errorf("commit: %v", err)
	}
}

// A Welcome names a pre-shared key once (RFC 9420 sections 12.2 and 12.4.3.1).
func TestWelcomeNamesAKeyOnce(t *testing.T) {
	s := must[*labeled.Suite](t)(testSuite.suite())
	id := PreSharedKeyID{Type: PSKExternal, ID: []byte("x"), Nonce: make([]byte, s.Nh)}
	o := &JoinOptions{PSKs: func(PreSharedKeyID) ([]byte, error) { return []byte("key"), nil }}
	must[*joinPSKs](t)(joinPSK(s, &groupSecrets{psks: []PreSharedKeyID{id}}, o))
	if _, err := joinPSK(s, &groupSecrets{psks: []PreSharedKeyID{id, id}}, o); rule(err) != "pre-shared key is used twice" {
		t.Errorf("%v", err)
	}
}
