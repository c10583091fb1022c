package state

import "testing"

func TestSlotsAreNeverSharedOrReused(t *testing.T) {
	t.Parallel()
	p := &profile{Version: profileVersion}
	seen, low := map[uint16]bool{}, map[byte]bool{}
	for i := range maxDevices {
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
	if _, err := p.newSlot(); err == nil {
		t.Error("one device too many")
	}
}
