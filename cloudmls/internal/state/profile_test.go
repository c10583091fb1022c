package state

import (
	"strings"
	"testing"
)

// TestSlotsAreNeverSharedOrReused, whatever the number of devices that came and
// went.
func TestSlotsAreNeverSharedOrReused(t *testing.T) {
	t.Parallel()
	p := &profile{Version: profileVersion}
	seen, low := map[uint16]bool{}, map[byte]bool{}
	for i := range 3 * maxDevices / 2 {
		s, err := p.newSlot()
		if err != nil {
			t.Fatalf("device %d: %v", i, err)
		}
		if s == 0 || seen[s] || i < 256 && low[byte(s)] {
			t.Fatalf("device %d got slot %d", i, s)
		}
		seen[s], low[byte(s)] = true, true
		if i%2 == 0 {
			p.Used = append(p.Used, s)
		} else {
			p.Devices = append(p.Devices, device{Slot: s})
		}
	}
}

// TestDevicesAreBounded: by those in use, since ROOT is wrapped for each, and
// only far above that by those that were removed, whose slots stay used. What is
// refused for those in use works again once one of them is removed.
func TestDevicesAreBounded(t *testing.T) {
	t.Parallel()
	p := &profile{Version: profileVersion}
	for i := range maxDevices {
		p.Devices = append(p.Devices, device{Slot: uint16(i + 1)})
	}
	if _, err := p.newSlot(); err == nil || !strings.Contains(err.Error(), "revoke") {
		t.Errorf("one device too many: %v", err)
	}
	p.Devices, p.Used = p.Devices[1:], append(p.Used, p.Devices[0].Slot)
	if _, err := p.newSlot(); err != nil {
		t.Errorf("after one was removed: %v", err)
	}
	for i := range maxSlots - len(p.Devices) - len(p.Used) {
		p.Used = append(p.Used, uint16(maxDevices+1+i))
	}
	if s, err := p.newSlot(); err == nil {
		t.Errorf("slot %d of a profile that has used %d", s, len(p.Devices)+len(p.Used))
	}
	p.Used = p.Used[1:]
	if _, err := p.newSlot(); err != nil {
		t.Errorf("the last slot: %v", err)
	}
}
