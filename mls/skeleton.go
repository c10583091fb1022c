package mls

import "time"

// NewGroup creates a group with one member.
func NewGroup(o GroupOptions) (*Group, error) { return nil, errSkeleton }

// JoinWelcome joins a group.
func JoinWelcome(w *Message, o JoinOptions) (*Group, error) { return nil, errSkeleton }

// UnmarshalGroup reads back a group.
func UnmarshalGroup(b []byte, sig SignaturePrivateKey, v CredentialValidator) (*Group, error) {
	return nil, errSkeleton
}

// MarshalBinary encodes the group with its secrets, without the signature key.
func (g *Group) MarshalBinary() ([]byte, error) { return nil, errSkeleton }

// Clone returns an independent copy.
func (g *Group) Clone() *Group { return g }

// ID returns the group's id.
func (g *Group) ID() GroupID { return "" }

// Epoch returns the epoch.
func (g *Group) Epoch() Epoch { return 0 }

// CipherSuite returns the suite.
func (g *Group) CipherSuite() CipherSuite { return 0 }

// OwnLeaf returns the own leaf.
func (g *Group) OwnLeaf() LeafIndex { return 0 }

// Extensions returns those of the GroupContext.
func (g *Group) Extensions() []Extension { return nil }

// Extension returns one of the GroupContext.
func (g *Group) Extension(t ExtensionType) ([]byte, bool) { return nil, false }

// Members returns the members by leaf.
func (g *Group) Members() []Member { return nil }

// SetPSKs sets the source of pre-shared keys.
func (g *Group) SetPSKs(source PSKSource) {}

// Export derives a secret for the application.
func (g *Group) Export(label string, context []byte, n int) ([]byte, error) { return nil, errSkeleton }

// EpochAuthenticator returns the epoch authenticator.
func (g *Group) EpochAuthenticator() []byte { return nil }

// Commit makes a Commit.
func (g *Group) Commit(o CommitOptions) (*PendingCommit, error) { return nil, errSkeleton }

// Group returns the group after the Commit.
func (s *StagedCommit) Group() *Group { return nil }

// Merge makes a staged Commit take effect.
func (g *Group) Merge(s *StagedCommit) error { return errSkeleton }

// Process handles a received message.
func (g *Group) Process(m *Message, now time.Time) (Received, error) { return nil, errSkeleton }

// Protect encrypts an application message.
func (g *Group) Protect(plaintext []byte, o ProtectOptions) (*Message, error) {
	return nil, errSkeleton
}

// Archive returns the archive record of the epoch.
func (g *Group) Archive() (*ArchiveRecord, error) { return nil, errSkeleton }

// ParseArchiveRecord decodes an archive record.
func ParseArchiveRecord(b []byte) (*ArchiveRecord, error) { return nil, errSkeleton }

// MarshalBinary encodes the record.
func (r *ArchiveRecord) MarshalBinary() ([]byte, error) { return nil, errSkeleton }

// GroupID returns the group.
func (r *ArchiveRecord) GroupID() GroupID { return "" }

// Epoch returns the epoch.
func (r *ArchiveRecord) Epoch() Epoch { return 0 }

// OwnLeaf returns the own leaf.
func (r *ArchiveRecord) OwnLeaf() LeafIndex { return 0 }

// Members returns the roster.
func (r *ArchiveRecord) Members() []Member { return nil }

// EpochAuthenticator returns the epoch authenticator.
func (r *ArchiveRecord) EpochAuthenticator() []byte { return nil }

// Extension returns one extension of the GroupContext.
func (r *ArchiveRecord) Extension(t ExtensionType) ([]byte, bool) { return nil, false }

// Open decrypts an application message of the epoch.
func (r *ArchiveRecord) Open(m *Message) (*Application, error) { return nil, errSkeleton }

// Seal encrypts an application message of the epoch.
func (r *ArchiveRecord) Seal(plaintext []byte, sig SignaturePrivateKey, o ProtectOptions) (*Message, error) {
	return nil, errSkeleton
}
