package keyserver_test

import (
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestSquattedTokenFreezesAGroupOnly: a member who registers a token that he made
// up is the only one who opens epochs of this group (docs/adr/0015). The others
// go on in another conversation; a dialog is replaced by either of its people.
func TestSquattedTokenFreezesAGroupOnly(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob, mallory := w.person("alice"), w.person("bob"), w.person("mallory")
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "begin", bob.account, mallory.account))
	squat := g.commit(mallory.account, "mine", alice.account, bob.account, mallory.account)
	squat.TokenHash = sha256Of([]byte("known to mallory alone"))
	if _, err := mallory.tx(keyapi.Tx{Commit: squat}); err != nil {
		t.Fatal(err)
	}
	before := *g
	g.epoch++
	_, err := alice.tx(keyapi.Tx{Commit: g.commit(alice.account, "without mallory", alice.account, bob.account)})
	wantCode(t, err, keyapi.CodeForbidden)
	for _, token := range [][]byte{g.token(g.epoch), before.token(before.epoch)} { // nor the one that everybody had
		again := newGroup()
		again.conversation = g.conversation
		c := again.create(alice.account, "a new group", bob.account)
		c.Replaces, c.Token = g.id, token
		_, err = alice.tx(keyapi.Tx{Commit: c})
		wantCode(t, err, keyapi.CodeForbidden)
	}
	notice := &keyapi.CommitSubmission{
		Conversation: g.conversation, Kind: g.kind, Sender: alice.account, Group: g.id, Epoch: g.epoch,
		Notice: []byte("let us go on elsewhere"), Recipients: []keyapi.Account{bob.account},
	}
	if _, err := alice.tx(keyapi.Tx{Commit: notice}); err != nil {
		t.Errorf("a notice in the frozen group: %v", err)
	}
	other := newGroup()
	alice.mustCommit(other, other.create(alice.account, "elsewhere", bob.account))
	wantMessages(t, bob.inbox(0), "welcome of begin", "mine", "let us go on elsewhere", "welcome of elsewhere")

	d := newDialog(bob.account, mallory.account)
	begun := d.create(mallory.account, "hello", bob.account)
	begun.TokenHash = sha256Of([]byte("known to mallory alone"))
	if _, err := mallory.tx(keyapi.Tx{Commit: begun}); err != nil {
		t.Fatal(err)
	}
	anew := newDialog(bob.account, mallory.account)
	c := anew.create(bob.account, "anew", mallory.account)
	c.Replaces = d.id
	bob.mustCommit(anew, c)
}
