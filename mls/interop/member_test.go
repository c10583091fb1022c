package interop

import "github.com/cloudmls/gateway/mls"

// appExtension is a private-use extension type that all members support.
const appExtension = mls.ExtensionType(0xf101)

// member is one member of a group, on either implementation. A Commit is
// staged until merge or drop.
type member interface {
	name() string
	// keyPackage makes a new KeyPackage, which join or create uses.
	keyPackage() ([]byte, error)
	create(group []byte, e extensions) error
	// join joins; tree is nil if the Welcome carries it.
	join(welcome, tree []byte) error
	// joinExternal makes an external Commit, which merge makes take effect. If
	// replace is not nil, it is the former leaf of the client.
	joinExternal(groupInfo []byte, replace *mls.LeafIndex) (commit []byte, err error)
	// proposeSelf proposes to the group to add the client, from outside.
	proposeSelf(groupInfo []byte) ([]byte, error)
	groupInfo() ([]byte, error)
	propose(p proposal) ([]byte, error)
	commit(o commitOptions) (commitMessages, error)
	merge() error
	drop() error
	// process handles a handshake message of the current epoch, and merges
	// Commits.
	process(message []byte) error
	protect(plaintext []byte) ([]byte, error)
	// open reads an application message of the current or an earlier epoch.
	open(message []byte) ([]byte, error)
	view(label string, context []byte, n int) (*view, error)
	// restart stores the state and reads it back, where that is part of the
	// test.
	restart() error
	ours() bool
}

// extensions are those of a GroupContext, by type.
type extensions map[mls.ExtensionType][]byte

// proposal is any proposal; its type says which fields count.
type proposal struct {
	kind       proposalKind
	keyPackage []byte
	leaf       mls.LeafIndex
	psk        []byte // id of an external PSK
	group      []byte // of a resumption PSK, with the epoch
	epoch      mls.Epoch
	extensions extensions
	asPublic   bool // wish: as PublicMessage
}

type proposalKind string

const (
	add           proposalKind = "add"
	remove        proposalKind = "remove"
	update        proposalKind = "update"
	externalPSK   proposalKind = "external psk"
	resumptionPSK proposalKind = "resumption psk"
	setExtensions proposalKind = "extensions"
)

type commitOptions struct {
	proposals []proposal
	// Wishes; each implementation does what it can.
	asPublic, treeInside, withoutPath, newKey bool
}

type commitMessages struct {
	commit, welcome, tree []byte // tree is nil if it is in the Welcome
}

// view is what members must agree on, and what the test steers by.
type view struct {
	epoch         mls.Epoch
	leaf          mls.LeafIndex
	left          bool
	authenticator []byte
	exported      []byte
	extensions    extensions
	members       map[mls.LeafIndex]string
}

// psks are the external pre-shared keys that all members have, by id.
type psks map[string][]byte
