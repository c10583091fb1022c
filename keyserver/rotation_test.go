package keyserver_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

func (p *person) rotate(from, to ed25519.PrivateKey) (keyapi.RotationRequest, error) {
	p.w.t.Helper()
	r, err := keyapi.NewRotation(p.account, from, to.Public().(ed25519.PublicKey), 1700000000)
	if err != nil {
		p.w.t.Fatal(err)
	}
	q := keyapi.RotationRequest{Account: p.account, Rotation: r}
	_, err = p.w.c.RotateIdentity(p.w.t.Context(), p.token(), q)
	return q, err
}

// TestThreat44_RotationAtTheKeyServer: the key that an account is known by
// changes by the signature of the key before alone, and takes all KeyPackages
// of that one with it.
func TestThreat44_RotationAtTheKeyServer(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	old, next, evil := bob.identity, newKey(), newKey()
	stale := bob.keyPackage(nil)
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil), bob.keyPackage(nil)}, LastResort: bob.keyPackage(lastResort)}); err != nil {
		t.Fatal(err)
	}
	_, err := bob.rotate(evil, next)
	wantCode(t, err, keyapi.CodeConflict)
	forged := keyapi.RotationRequest{Account: bob.account, Rotation: keyapi.Rotation{Previous: public(old), Next: public(evil), Time: 1, Signature: make([]byte, 64)}}
	_, err = w.c.RotateIdentity(t.Context(), bob.token(), forged)
	wantCode(t, err, keyapi.CodeInvalid)
	taken := *alice
	taken.account = bob.account
	_, err = taken.rotate(old, next)
	wantCode(t, err, keyapi.CodeForbidden)
	if r, err := w.c.Reachable(t.Context(), alice.token(), bob.account); err != nil || string(r.IdentityKey) != string(public(old)) || len(r.Rotations) != 0 {
		t.Fatalf("before: %+v, %v", r, err)
	}

	first, err := bob.rotate(old, next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.RotateIdentity(t.Context(), bob.token(), first); err != nil { // the answer was lost
		t.Errorf("the same rotation again: %v", err)
	}
	_, err = alice.claimFrom(bob)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
	if count, err := w.c.KeyPackageCount(t.Context(), bob.token(), bob.account); err != nil || count.Available != 0 || count.LastResort {
		t.Errorf("KeyPackages of the key before: %+v, %v", count, err)
	}
	r, err := w.c.Reachable(t.Context(), alice.token(), bob.account)
	if err != nil || len(r.Rotations) != 1 || string(r.IdentityKey) != string(public(next)) || !keyapi.RotationLeads(r.Rotations, public(old)) {
		t.Fatalf("after: %+v, %v", r, err)
	}
	// Whoever holds the key before can do nothing with it any more.
	_, err = bob.rotate(old, evil)
	wantCode(t, err, keyapi.CodeConflict)
	_, err = bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{stale}})
	wantCode(t, err, keyapi.CodeInvalid)
	_, err = bob.rotate(next, old)
	wantCode(t, err, keyapi.CodeInvalid)

	bob.identity = next
	if count, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil)}, LastResort: bob.keyPackage(lastResort)}); err != nil || count.Available != 1 || !count.LastResort {
		t.Fatalf("KeyPackages of the new key: %+v, %v", count, err)
	}
	for range keyapi.MaxRotations + 1 {
		from := bob.identity
		bob.identity = newKey()
		if _, err := bob.rotate(from, bob.identity); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = w.c.Reachable(t.Context(), alice.token(), bob.account); err != nil || len(r.Rotations) != keyapi.MaxRotations {
		t.Errorf("after many: %d rotations, %v", len(r.Rotations), err)
	}
}

// A rotation that comes between the check of an upload and its storing leaves
// nothing of the key before in the pool.
func TestThreat44_UploadDuringARotation(t *testing.T) {
	var bob *person
	rotated := false
	w := newWorld(t, keyserver.Options{CheckKeyPackage: func(keyapi.Account, []byte, *mls.KeyPackage) error {
		if rotated {
			return nil
		}
		rotated = true
		_, err := bob.rotate(bob.identity, newKey())
		return err
	}})
	bob = w.person("bob")
	upload := keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil)}}
	_, err := bob.upload(upload)
	wantCode(t, err, keyapi.CodeConflict)
	if count, err := w.c.KeyPackageCount(t.Context(), bob.token(), bob.account); err != nil || count.Available != 0 || !rotated {
		t.Errorf("%+v, %v", count, err)
	}
}
