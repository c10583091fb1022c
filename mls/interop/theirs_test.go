package interop

import (
	"cmp"
	"encoding/base64"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// theirs is a member on ts-mls, named in its process.
type theirs struct {
	id   string
	peer *peer
	psks psks
}

func (m *theirs) name() string   { return m.id }
func (m *theirs) ours() bool     { return false }
func (m *theirs) restart() error { return nil }

// call runs a command for this member; its answer may be a message.
func (m *theirs) call(op string, in args, field string) ([]byte, error) {
	in["name"] = m.id
	answer := map[string][]byte{}
	err := m.peer.call(op, in, &answer)
	return answer[field], err
}

func (m *theirs) withPSKs(in args) args {
	list := []args{}
	for id, secret := range m.psks {
		list = append(list, args{"id": base64.StdEncoding.EncodeToString([]byte(id)), "secret": secret})
	}
	in["psks"] = list
	return in
}

func (m *theirs) keyPackage() ([]byte, error) {
	now := time.Now().Unix()
	return m.call("keyPackage", args{
		"notBefore": now - 3600, "notAfter": now + 30*24*3600, "extensions": []mls.ExtensionType{appExtension},
	}, "keyPackage")
}

func (m *theirs) create(group []byte, e extensions) error {
	if _, err := m.keyPackage(); err != nil {
		return err
	}
	_, err := m.call("create", args{"group": group, "extensions": e.list()}, "")
	return err
}

func (m *theirs) join(welcome, tree []byte) error {
	_, err := m.call("join", m.withPSKs(args{"welcome": welcome, "tree": tree}), "")
	return err
}

func (m *theirs) joinExternal(groupInfo []byte, replace *mls.LeafIndex) ([]byte, error) {
	if _, err := m.keyPackage(); err != nil {
		return nil, err
	}
	return m.call("joinExternal", args{"groupInfo": groupInfo, "resync": replace != nil}, "commit")
}

func (m *theirs) proposeSelf(groupInfo []byte) ([]byte, error) {
	if _, err := m.keyPackage(); err != nil {
		return nil, err
	}
	return m.call("proposeSelf", args{"groupInfo": groupInfo}, "message")
}

func (m *theirs) groupInfo() ([]byte, error) { return m.call("groupInfo", args{}, "groupInfo") }

func (p *proposal) args() args {
	return args{
		"type": p.kind, "keyPackage": p.keyPackage, "leaf": p.leaf, "id": p.psk, "group": p.group, "epoch": p.epoch,
		"extensions": p.extensions.list(),
	}
}

func (e extensions) list() []args {
	list := []args{}
	for t, data := range e {
		list = append(list, args{"type": t, "data": data})
	}
	slices.SortFunc(list, func(a, b args) int {
		return cmp.Compare(a["type"].(mls.ExtensionType), b["type"].(mls.ExtensionType))
	})
	return list
}

func (m *theirs) propose(p proposal) ([]byte, error) {
	return m.call("propose", args{"proposal": p.args(), "asPublic": p.asPublic}, "message")
}

func (m *theirs) commit(o commitOptions) (commitMessages, error) {
	list := []args{}
	for _, p := range o.proposals {
		list = append(list, p.args())
	}
	in := m.withPSKs(args{"name": m.id, "proposals": list, "asPublic": o.asPublic, "treeInside": o.treeInside})
	var answer struct{ Commit, Welcome, Tree []byte }
	err := m.peer.call("commit", in, &answer)
	return commitMessages{answer.Commit, answer.Welcome, answer.Tree}, err
}

func (m *theirs) merge() error {
	_, err := m.call("merge", args{}, "")
	return err
}

func (m *theirs) drop() error {
	_, err := m.call("drop", args{}, "")
	return err
}

func (m *theirs) process(message []byte) error {
	_, err := m.open(message)
	return err
}

func (m *theirs) open(message []byte) ([]byte, error) {
	return m.call("process", m.withPSKs(args{"message": message}), "plaintext")
}

func (m *theirs) protect(plaintext []byte) ([]byte, error) {
	return m.call("protect", args{"plaintext": plaintext, "authenticatedData": []byte(m.id)}, "message")
}

func (m *theirs) view(label string, context []byte, n int) (*view, error) {
	var a struct {
		Epoch                   mls.Epoch
		Leaf                    mls.LeafIndex
		Left                    bool
		Authenticator, Exported []byte
		Extensions              []struct {
			Type mls.ExtensionType
			Data []byte
		}
		Members []struct {
			Leaf mls.LeafIndex
			Name string
		}
	}
	err := m.peer.call("view", args{"name": m.id, "label": label, "context": context, "length": n}, &a)
	if err != nil {
		return nil, err
	}
	v := &view{
		epoch: a.Epoch, leaf: a.Leaf, left: a.Left, authenticator: a.Authenticator, exported: a.Exported,
		extensions: extensions{}, members: map[mls.LeafIndex]string{},
	}
	for _, e := range a.Extensions {
		v.extensions[e.Type] = e.Data
	}
	for _, x := range a.Members {
		v.members[x.Leaf] = x.Name
	}
	return v, nil
}
