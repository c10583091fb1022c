package mls

import (
	"bytes"
	"testing"
)

// What the others could not decode is not sent: the committer alone would be in
// the next epoch.
func TestUndecodableInputIsRefused(t *testing.T) {
	w := newWorld(t, 2, 0)
	g := w.members[0]
	g.SetPSKs(func(PreSharedKeyID) ([]byte, error) { return []byte("for every id"), nil })
	nonce := make([]byte, 32)
	long := bytes.Repeat([]byte{'x'}, maxIdentity+1)
	before := must[[]byte](t)(g.MarshalBinary())
	var none *Remove
	for name, p := range map[string]Proposal{
		"nothing":                      nil,
		"nil":                          none,
		"no key package":               &Add{},
		"key of an unknown type":       &PreSharedKey{ID: PreSharedKeyID{Type: 7, Nonce: nonce}},
		"key for an unknown usage":     &PreSharedKey{ID: PreSharedKeyID{Type: PSKResumption, Usage: 9, Nonce: nonce}},
		"key with a long id":           &PreSharedKey{ID: PreSharedKeyID{Type: PSKExternal, ID: long, Nonce: nonce}},
		"new group with a long id":     &ReInit{GroupID: GroupID(long), Version: MLS10, CipherSuite: testSuite},
		"an update that was not made":  &Update{},
		"extensions that are too many": &GroupContextExtensions{Extensions: make([]Extension, maxExtensions+1)},
	} {
		if _, err := g.Commit(CommitOptions{Proposals: []Proposal{p}}); err == nil {
			t.Errorf("commit: %s", name)
		}
		if _, err := g.Propose(p, ProposeOptions{}); err == nil {
			t.Errorf("propose: %s", name)
		}
	}
	large := NewBasicCredential(long)
	w.members[0].validate = func(CredentialCheck) error { return nil }
	if _, err := g.Commit(CommitOptions{NewCredential: &large}); err == nil {
		t.Error("commit: credential that is too long")
	}
	if _, err := g.ProposeUpdate(UpdateOptions{NewCredential: &large}); err == nil {
		t.Error("update: credential that is too long")
	}
	if !bytes.Equal(before, must[[]byte](t)(g.MarshalBinary())) {
		t.Error("refused input changed the group")
	}
	if _, err := g.Process(nil, testNow); err == nil {
		t.Error("no message was processed")
	}
}
