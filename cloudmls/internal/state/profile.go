package state

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// profile lists the user's devices. A published profile is never changed.
type profile struct {
	Version int      `json:"version"`
	Devices []device `json:"devices"`
	// Used are the slots of removed devices: a slot is never given out twice,
	// since it keeps the nonces of two devices apart.
	Used []uint16 `json:"used,omitempty"`
}

type device struct {
	ID    []byte    `json:"id"` // 16 octets
	Slot  uint16    `json:"slot"`
	Name  string    `json:"name"`
	Key   []byte    `json:"key"` // Ed25519
	Added time.Time `json:"added"`
}

const (
	profileVersion = 1
	maxDevices     = 1000   // in use: ROOT is wrapped for each, and keys.MarshalWraps takes 1,024
	maxSlots       = 60_000 // in use and removed, of 65,535: a free one is found in a dozen draws
)

func (p *profile) clone() *profile {
	return &profile{p.Version, slices.Clone(p.Devices), slices.Clone(p.Used)}
}

func (p *profile) device(id []byte) (device, bool) {
	for _, d := range p.Devices {
		if string(d.ID) == string(id) {
			return d, true
		}
	}
	return device{}, false
}

// newSlot draws a free slot at random: two new devices that a server has shown
// the same old profile still get different slots, as good as always. While
// there are free ones, the low octet is one that no other device has either, so
// that even one octet of the slot keeps nonces apart.
func (p *profile) newSlot() (uint16, error) {
	taken, low := map[uint16]bool{0: true}, map[byte]bool{}
	mark := func(s uint16) { taken[s], low[byte(s)] = true, true }
	for _, s := range p.Used {
		mark(s)
	}
	for _, d := range p.Devices {
		mark(d.Slot)
	}
	if len(p.Devices) >= maxDevices {
		return 0, fmt.Errorf("this user has %d devices, and no room for another: sign some out, or revoke them on one that is signed in", len(p.Devices))
	}
	if len(taken) > maxSlots {
		return 0, fmt.Errorf("this user has had %d devices, and no slot is left for another", len(taken)-1)
	}
	for {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("draw device slot: %w", err)
		}
		s := binary.BigEndian.Uint16(b[:])
		if !taken[s] && (!low[byte(s)] || len(low) == 256) {
			return s, nil
		}
	}
}

func (p *profile) marshal() ([]byte, error) { return json.Marshal(p) }

func parseProfile(b []byte) (*profile, error) {
	var p profile
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, errors.New("profile is malformed")
	}
	if p.Version != profileVersion {
		return nil, fmt.Errorf("profile of version %d, this program knows %d", p.Version, profileVersion)
	}
	return &p, nil
}
