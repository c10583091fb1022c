package cloudmls

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// TestRotationsOfSiblingsMeet: a device publishes an identity key that another
// one has published, taken and replaced in the meantime. That is nobody else's
// doing.
func TestRotationsOfSiblingsMeet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	before := alice.ownKey()
	other := alice.sibling()
	var begun atomic.Bool
	met := false
	w.wire.set(func(e *exchange) bool {
		if e.is("POST", "/v1/accounts/rotate") && begun.CompareAndSwap(false, true) {
			met = true
			if err := other.Rotate(t.Context(), RotateOptions{Devices: []string{}}); err != nil {
				t.Errorf("the faster device: %v", err)
			}
		}
		return false
	}, nil)
	if err := alice.Rotate(t.Context(), RotateOptions{Devices: []string{}}); err != nil {
		t.Errorf("the slower device: %v", err)
	}
	if !met {
		t.Fatal("the rotations did not meet")
	}
	for _, d := range []*device{alice, other} {
		d.cleanSync()
		d.isRotated(before)
	}
	bob.mustSync()
	bob.reads(other.encrypt(id, "after"), "after", other)
}

// TestRotationBesideEverything: two devices of a user write, read, look after
// their state and rotate its keys at the same time. Every message opens on every
// device, a new one included, and none is taken for another.
func TestRotationBesideEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	devices := []*device{alice, alice.sibling()}
	var (
		mu       sync.Mutex
		messages = map[string][]byte{}
		work     sync.WaitGroup
	)
	try := func(what string, fn func() error) {
		work.Go(func() {
			if err := fn(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	for i, d := range devices {
		try("write and read", func() error {
			for n := range 4 {
				text := fmt.Sprintf("%d from device %d", n, i)
				b, err := d.Encrypt(t.Context(), d.self, id, []byte(text), nil)
				if err != nil {
					return err
				}
				if _, err := d.Decrypt(t.Context(), d.self, b); err != nil {
					return err
				}
				mu.Lock()
				messages[text] = b
				mu.Unlock()
			}
			return nil
		})
		try("maintain", func() error { return d.Maintain(t.Context()) })
	}
	try("rotate", func() error { return alice.Rotate(t.Context(), RotateOptions{Devices: []string{}}) })
	work.Wait()
	if t.Failed() {
		return
	}
	bob.mustSync()
	devices = append(devices, alice.sibling())
	for _, d := range devices {
		d.mustSync()
	}
	for text, b := range messages {
		for _, d := range devices {
			// Late it is where the leaf has shown another identity key since.
			p := d.decrypt(b)
			if late := slices.Equal(p.Warnings, []Warning{WarningLate}); string(p.Data) != text || !p.Verified && !late {
				t.Errorf("%s: got %q, %v", d.self, p.Data, p.Warnings)
			}
		}
		if p := bob.decrypt(b); string(p.Data) != text {
			t.Errorf("%s: got %q", bob.self, p.Data)
		}
	}
}
