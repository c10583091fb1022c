package session

import "testing"

// TestDamagedStaysDamaged: what another connection stores a moment later, from
// the control part alone, does not bring the opened form back.
func TestDamagedStaysDamaged(t *testing.T) {
	var x MemoryIndex
	damaged := Entry{Layout: "1 2 9 base64", Opened: true, StubKey: "damaged", Broken: true}
	opened := Entry{Layout: "1 2 9 base64", Opened: true}
	for _, e := range []Entry{opened, damaged, opened} {
		if err := x.Update("INBOX", 7, Change{Put: map[uint32]Entry{3: e}}); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := x.Load("INBOX", 7); err != nil || s.Sealed[3].StubKey != "damaged" {
		t.Errorf("index holds %+v, %v", s.Sealed[3], err)
	}
	b := &shownBox{forms: make(map[uint32]string)}
	if b.outdated(3, "") || b.settle(3, "") != "" || b.supersede(3, "damaged") != "damaged" || b.supersede(3, "invalid") != "damaged" {
		t.Errorf("forms %v", b.forms)
	}
	if !b.outdated(3, "") || b.outdated(3, "damaged") || b.settle(3, "") != "damaged" {
		t.Errorf("forms %v", b.forms)
	}
}
