package mls

import "testing"

// What UnmarshalGroup accepts can be used: a stored group that was tampered with
// is refused, and does not stop the program later.
func TestTamperedStateIsRefused(t *testing.T) {
	for name, change := range map[string]func(g *Group){
		"nothing":                     nil,
		"update of nobody":            func(g *Group) { g.proposals[0].sender.Index = 5000 },
		"update from outside":         func(g *Group) { g.proposals[0].sender = Sender{Type: SenderNewMemberProposal} },
		"removal of nobody":           func(g *Group) { g.proposals[1].proposal = &Remove{Removed: 1 << 31} },
		"external init":               func(g *Group) { g.proposals[1].proposal = &ExternalInit{KEMOutput: randomBytes(32)} },
		"unmerged leaf is not below":  func(g *Group) { unmerged(g, 3) },
		"unmerged leaf is not there":  func(g *Group) { unmerged(g, 9) },
		"private key of another node": func(g *Group) { g.private[g.tree.root()] = g.private[g.own.node()] },
		"private key of another path": func(g *Group) { g.private[LeafIndex(3).node()] = g.private[g.own.node()] },
		"key of own leaf is missing":  func(g *Group) { delete(g.private, g.own.node()) },
		"secret tree of another size": func(g *Group) { g.keys.leaves *= 2 },
		"secret beyond the tree":      func(g *Group) { g.keys.nodes[99] = randomBytes(32) },
		"short secret":                func(g *Group) { g.secrets.init = randomBytes(31) },
		"other transcript":            func(g *Group) { g.interim = flip(g.interim) },
		"other own leaf":              func(g *Group) { g.own = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 4, 4)
			g := w.members[1]
			m := must[*Message](t)(w.members[2].ProposeUpdate(UpdateOptions{}))
			must[Received](t)(g.Process(m, testNow))
			must[*Message](t)(g.Propose(&Remove{Removed: 3}, ProposeOptions{}))
			if change != nil {
				change(g)
			}
			h, err := UnmarshalGroup(must[[]byte](t)(g.MarshalBinary()), g.SignatureKey(), acceptNamed)
			if change == nil {
				must[*PendingCommit](t)(must[*Group](t)(h, err).Commit(CommitOptions{}))
			} else if err == nil {
				t.Error("accepted")
			}
		})
	}
}

// unmerged makes a leaf unmerged in the lowest parent of a group's tree.
func unmerged(g *Group, l LeafIndex) {
	g.tree = g.tree.clone()
	p := *g.tree.parent(1)
	p.unmerged = []LeafIndex{l}
	g.tree.setParent(1, &p)
	g.context.treeHash = g.tree.rootHash(g.suite)
}
