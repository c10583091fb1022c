package state

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
)

// Device is one of the user's devices, as the sealed profile lists it.
type Device struct {
	ID    string // 32 hexadecimal digits
	Name  string
	Slot  uint16
	Key   []byte // Ed25519; by it the key server's sessions are matched
	Added time.Time
	This  bool
}

// Devices lists the user's devices as of the last Refresh, in the order in
// which they were added.
func (s *Store) Devices() []Device {
	own := s.deviceID()
	var list []Device
	for _, d := range s.now.Load().profile.Devices {
		list = append(list, Device{
			ID: hex.EncodeToString(d.ID), Name: d.Name, Slot: d.Slot, Key: bytes.Clone(d.Key), Added: d.Added,
			This: bytes.Equal(d.ID, own),
		})
	}
	return list
}

// DropDevice takes a device out of profile and keyring: ROOT is not wrapped for
// it any more. It is no error if it is not listed. Its slot stays used.
func (s *Store) DropDevice(ctx context.Context, id string) error {
	raw, err := hex.DecodeString(id)
	if err != nil {
		return fmt.Errorf("remove device: id: %w", err)
	}
	stays := func(r keys.Recipient) bool { return r.Kind != keys.KindDevice || !bytes.Equal(r.ID[:], raw) }
	err = s.renewing(ctx, stays, false, func(renew *renewal) error {
		return s.Update(ctx, func(t *Tx) error {
			if err := renew.ride(t); err != nil {
				return err
			}
			return t.dropDevice(raw)
		})
	})
	if err != nil {
		return fmt.Errorf("remove device: %w", err)
	}
	return nil
}
