// Package interop holds package mls against ts-mls, an independent
// implementation of RFC 9420: random groups with members on both. See
// README.md.
package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// stepsPerScript is the least number of epochs of a script.
const stepsPerScript = 32

const groupID = "interop"

// theirSuite says how ts-mls is told to use one of our suites.
func theirSuite(cs mls.CipherSuite, registered map[mls.CipherSuite]string, privateUse []string) (args, bool) {
	if name := registered[cs]; name == cs.String() {
		return args{"id": cs}, true
	}
	if cs < 0xf000 {
		return nil, false // a number that means something else there, or nothing
	}
	i := slices.IndexFunc(privateUse, func(definition string) bool { return strings.HasSuffix(cs.String(), definition) })
	if i < 0 {
		return nil, false
	}
	return args{"id": cs, "definition": privateUse[i]}, true
}

// TestRandomScripts runs one random script with each suite that both sides
// have.
func TestRandomScripts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MLS_INTEROP_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed: MLS_INTEROP_SEED=%d", seed)
	var theirs struct {
		Suites []struct {
			ID   mls.CipherSuite
			Name string
		}
		PrivateUse []string
	}
	if err := startPeer(t).call("suites", nil, &theirs); err != nil {
		t.Fatal(err)
	}
	registered := map[mls.CipherSuite]string{}
	for _, s := range theirs.Suites {
		registered[s.ID] = s.Name
	}
	run := 0
	for _, cs := range mls.CipherSuites() {
		suite, ok := theirSuite(cs, registered, theirs.PrivateUse)
		if !ok {
			t.Logf("%s: only here, not in ts-mls", cs)
			continue
		}
		run++
		weCreate := (uint64(run)+seed)%2 == 0
		t.Run(fmt.Sprintf("%#04x", uint16(cs)), func(t *testing.T) {
			t.Parallel()
			script(t, cs, suite, seed, weCreate)
		})
	}
	if run == 0 {
		t.Error("no suite is on both sides")
	}
}

// A Commit with a path in a tree whose left half is empty: the root is not on
// the filtered direct path (RFC 9420 sections 4.1.2 and 7.4).
func TestRootOffThePath(t *testing.T) {
	for _, weCreate := range []bool{true, false} {
		t.Run(fmt.Sprint(weCreate), func(t *testing.T) {
			w := newWorld(t, mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, args{"id": 1}, 1)
			w.begin(weCreate)
			var pair []member
			var adds []proposal
			for _, here := range []bool{weCreate, !weCreate} {
				m := w.client(here)
				kp, err := m.keyPackage()
				w.check(err, "key package of %s", m.name())
				pair, adds = append(pair, m), append(adds, proposal{kind: add, keyPackage: kp})
			}
			w.commit(w.members[0], commitOptions{proposals: adds}, pair...)
			w.commit(pair[0], commitOptions{proposals: []proposal{{kind: remove, leaf: 0}, {kind: remove, leaf: 1}}})
			if len(w.members) != 2 || w.leaves[pair[0]] != 2 || w.leaves[pair[1]] != 3 {
				t.Fatalf("leaves are %v", w.leaves)
			}
			w.talk()
			w.refresh(pair[1])
			w.talk()
		})
	}
}

// newWorld is a group that is not created yet, with a process of its own.
func newWorld(t *testing.T, cs mls.CipherSuite, suite args, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, rand: rand.New(rand.NewPCG(seed, uint64(cs))), suite: cs, peer: startPeer(t),
		psks: psks{}, late: map[member][]message{},
		ext: extensions{appExtension: []byte("extension of the new group")},
	}
	w.check(w.peer.call("suite", suite, nil), "suite")
	w.nh = hashSize(t, cs)
	return w
}

// script plays every step for an actor of each side, in random order, until
// there were enough. weCreate says which side creates the group.
func script(t *testing.T, cs mls.CipherSuite, suite args, seed uint64, weCreate bool) {
	w := newWorld(t, cs, suite, seed)
	w.begin(weCreate)
	done := 0
	for round := 0; done < stepsPerScript; round++ {
		for _, i := range w.rand.Perm(2 * len(steps)) {
			if round > 0 && done >= stepsPerScript {
				break // every step had its turn in the first round
			}
			actor := w.pick(side(i%2 == 0))
			s := steps[i/2]
			w.t.Logf("epoch %d, %d members: %s by %s", w.epoch, len(w.members), s.name, actor.name())
			if !s.do(w, actor) {
				continue
			}
			done++
			w.talk()
			if m := w.pick(); w.coin() {
				w.check(m.restart(), "restart of %s", m.name())
			}
		}
	}
	w.readAll()
	t.Logf("%s: %d steps, %d messages read, %d clients", cs, done, w.opened, w.names)
}

// begin creates the group, by a member of one side that adds one of the other.
func (w *world) begin(weCreate bool) {
	w.t.Helper()
	first := w.client(weCreate)
	w.check(first.create([]byte(groupID), w.ext), "%s creates the group", first.name())
	w.members = []member{first}
	w.agree()
	second := w.client(!first.ours())
	kp, err := second.keyPackage()
	w.check(err, "key package of %s", second.name())
	w.commit(first, commitOptions{proposals: []proposal{{kind: add, keyPackage: kp}}, treeInside: w.coin()}, second)
	w.talk()
}

// hashSize returns the size of a hash of a suite, in bytes.
func hashSize(t *testing.T, cs mls.CipherSuite) int {
	t.Helper()
	m := &ours{id: "probe", suite: cs}
	if err := m.create([]byte("probe"), nil); err != nil {
		t.Fatal(err)
	}
	return len(m.group.EpochAuthenticator())
}
