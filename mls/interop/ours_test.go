package interop

import (
	"bytes"
	"crypto/rand"
	"errors"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// ours is a member on package mls.
type ours struct {
	id    string
	suite mls.CipherSuite
	nh    int // size of a hash of the suite, in bytes
	psks  psks

	key        mls.SignaturePrivateKey
	secrets    *mls.KeyPackageSecrets
	group      *mls.Group
	staged     *mls.StagedCommit
	stagedKey  mls.SignaturePrivateKey // that the staged Commit brings
	external   *mls.ExternalJoin
	records    map[mls.Epoch]*mls.ArchiveRecord
	resumption map[mls.Epoch][]byte
}

func (m *ours) name() string { return m.id }
func (m *ours) ours() bool   { return true }

func validate(c mls.CredentialCheck) error {
	if c.Credential.Type != mls.CredentialBasic || len(c.Credential.Identity) == 0 {
		return errors.New("not a name")
	}
	if c.Previous != nil && !c.Previous.Equal(c.Credential) {
		return errors.New("name changed")
	}
	return nil
}

func (m *ours) findPSK(id mls.PreSharedKeyID) ([]byte, error) {
	if id.Type == mls.PSKExternal {
		return m.psks[string(id.ID)], nil
	}
	if m.group == nil || id.GroupID != m.group.ID() || id.Usage != mls.ResumptionApplication {
		return nil, nil
	}
	return m.resumption[id.Epoch], nil
}

// nonce is a psk_nonce (RFC 9420 section 8.4).
func (m *ours) nonce() []byte {
	b := make([]byte, m.nh)
	_, _ = rand.Read(b) // never fails
	return b
}

func (m *ours) credential() mls.Credential { return mls.NewBasicCredential([]byte(m.id)) }

func lifetime() mls.Lifetime {
	now := uint64(time.Now().Unix())
	return mls.Lifetime{NotBefore: now - 3600, NotAfter: now + 30*24*3600}
}

// freshKey gives the client a new signature key.
func (m *ours) freshKey() (err error) {
	m.key, _, err = mls.GenerateSignatureKey(m.suite)
	return err
}

func (m *ours) keyPackage() ([]byte, error) {
	if err := m.freshKey(); err != nil {
		return nil, err
	}
	c := mls.DefaultCapabilities(m.suite, appExtension)
	kp, secrets, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: m.suite, Credential: m.credential(), SignatureKey: m.key, Lifetime: lifetime(), Capabilities: &c,
	})
	if err != nil {
		return nil, err
	}
	m.secrets = secrets
	return kp.MarshalBinary()
}

func (m *ours) create(group []byte, e extensions) error {
	if err := m.freshKey(); err != nil {
		return err
	}
	c := mls.DefaultCapabilities(m.suite, appExtension)
	g, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: m.suite, GroupID: mls.GroupID(group), Credential: m.credential(), SignatureKey: m.key,
		Lifetime: lifetime(), Capabilities: &c, Extensions: e.ours(), Validate: validate, PSKs: m.findPSK,
	})
	if err != nil {
		return err
	}
	return m.enter(g)
}

func (e extensions) ours() []mls.Extension {
	var list []mls.Extension
	for _, x := range e.list() {
		list = append(list, mls.Extension{Type: x["type"].(mls.ExtensionType), Data: x["data"].([]byte)})
	}
	return list
}

// enter begins an epoch.
func (m *ours) enter(g *mls.Group) error {
	m.group = g
	if g.Left() {
		return nil
	}
	g.SetExternalCommits(true)
	record, err := g.Archive()
	if err != nil {
		return err
	}
	if m.records == nil {
		m.records, m.resumption = map[mls.Epoch]*mls.ArchiveRecord{}, map[mls.Epoch][]byte{}
	}
	m.records[g.Epoch()] = record
	m.resumption[g.Epoch()] = g.ResumptionPSK()
	return nil
}

func (m *ours) join(welcome, tree []byte) error {
	w, err := mls.ParseMessage(welcome)
	if err != nil {
		return err
	}
	g, err := mls.JoinWelcome(w, mls.JoinOptions{
		Secrets: m.secrets, Now: time.Now(), CheckLifetimes: true, Validate: validate, RatchetTree: tree, PSKs: m.findPSK,
	})
	if err != nil {
		return err
	}
	return m.enter(g)
}

func (m *ours) joinExternal(groupInfo []byte, replace *mls.LeafIndex) ([]byte, error) {
	info, err := mls.ParseMessage(groupInfo)
	if err != nil {
		return nil, err
	}
	if err := m.freshKey(); err != nil {
		return nil, err
	}
	c := mls.DefaultCapabilities(m.suite, appExtension)
	o := mls.ExternalJoinOptions{
		GroupInfo: info, Credential: m.credential(), SignatureKey: m.key, Capabilities: &c, Replace: replace,
		PSKSource: m.findPSK, Validate: validate,
	}
	for id := range m.psks {
		o.PSKs = append(o.PSKs, mls.PreSharedKeyID{Type: mls.PSKExternal, ID: []byte(id), Nonce: m.nonce()})
	}
	if m.external, err = mls.JoinExternal(o); err != nil {
		return nil, err
	}
	return m.external.Commit.MarshalBinary()
}

func (m *ours) proposeSelf(groupInfo []byte) ([]byte, error) {
	info, err := mls.ParseMessage(groupInfo)
	if err != nil {
		return nil, err
	}
	if _, err := m.keyPackage(); err != nil {
		return nil, err
	}
	id, epoch, _ := info.Group()
	message, err := mls.ProposeNewMember(mls.NewMemberProposalOptions{GroupID: id, Epoch: epoch, Secrets: m.secrets})
	if err != nil {
		return nil, err
	}
	return message.MarshalBinary()
}

func (m *ours) groupInfo() ([]byte, error) {
	info, err := m.group.GroupInfo()
	if err != nil {
		return nil, err
	}
	return info.MarshalBinary()
}

func (m *ours) protect(plaintext []byte) ([]byte, error) {
	message, err := m.group.Protect(plaintext, mls.ProtectOptions{
		AuthenticatedData: []byte(m.id), Padding: func(n int) int { return (n + 31) &^ 31 },
	})
	if err != nil {
		return nil, err
	}
	return message.MarshalBinary()
}

// open reads with the archive record of the epoch, and in the current epoch
// with the group too.
func (m *ours) open(message []byte) ([]byte, error) {
	parsed, err := mls.ParseMessage(message)
	if err != nil {
		return nil, err
	}
	_, epoch, _ := parsed.Group()
	var live *mls.Application
	if epoch == m.group.Epoch() || m.records[epoch] == nil {
		received, err := m.group.Process(parsed, time.Now())
		if err != nil {
			return nil, err
		}
		live = received.(*mls.Application)
	}
	archived, err := m.records[epoch].Open(parsed)
	if err != nil {
		return nil, err
	}
	if live != nil && (!bytes.Equal(live.Plaintext, archived.Plaintext) || live.Sender != archived.Sender) {
		return nil, errors.New("group and archive record disagree")
	}
	return archived.Plaintext, nil
}

func (m *ours) view(label string, context []byte, n int) (*view, error) {
	v := &view{
		epoch: m.group.Epoch(), leaf: m.group.OwnLeaf(), left: m.group.Left(), authenticator: m.group.EpochAuthenticator(),
		extensions: extensions{}, members: map[mls.LeafIndex]string{},
	}
	for _, e := range m.group.Extensions() {
		v.extensions[e.Type] = e.Data
	}
	for _, x := range m.group.Members() {
		v.members[x.Leaf] = string(x.Credential.Identity)
	}
	if v.left {
		return v, nil
	}
	var err error
	v.exported, err = m.group.Export(label, context, n)
	return v, err
}

func (m *ours) restart() error {
	stored, err := m.group.MarshalBinary()
	if err != nil {
		return err
	}
	g, err := mls.UnmarshalGroup(stored, m.group.SignatureKey(), validate)
	if err != nil {
		return err
	}
	g.SetExternalCommits(true)
	g.SetPSKs(m.findPSK)
	m.group = g
	return nil
}
