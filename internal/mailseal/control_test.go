package mailseal

import (
	"bytes"
	"errors"
	"testing"
)

func record(t testing.TB, inner []byte) []byte {
	t.Helper()
	var got []byte
	o := testOptions()
	o.Control = func(b []byte) ([]byte, error) { got = bytes.Clone(b); return sealControl(b) }
	seal(t, inner, o)
	return got
}

// TestControlStrict cuts, extends and changes control records: whatever is
// accepted has exactly one encoding.
func TestControlStrict(t *testing.T) {
	for _, inner := range [][]byte{[]byte("From: a@a.example\r\n\r\nbody\r\n"), sized(InlineMax + 1), sized(3 * ChunkSize)} {
		b := record(t, inner)
		for n := range b {
			if n > 200 && n%97 != 0 && n < len(b)-100 {
				continue
			}
			if _, err := ParseControl(b[:n]); err == nil {
				t.Fatalf("%d of %d octets are accepted", n, len(b))
			}
			bad := bytes.Clone(b)
			bad[n] ^= 0x81
			c, err := ParseControl(bad)
			if err != nil {
				continue
			}
			if again, err := c.MarshalBinary(); err != nil || !bytes.Equal(again, bad) {
				t.Fatalf("octet %d: two encodings, %v", n, err)
			}
		}
		if _, err := ParseControl(append(bytes.Clone(b), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("trailing octet: %v", err)
		}
		b[0] = 2
		if _, err := ParseControl(b); !errors.Is(err, ErrVersion) {
			t.Errorf("version 2: %v", err)
		}
	}
}

// TestControlRules breaks one rule after the other in a record that is right.
func TestControlRules(t *testing.T) {
	good := record(t, sized(3*ChunkSize))
	for name, spoil := range map[string]func(c *Control){
		"kind 0":               func(c *Control) { c.Kind = 0 },
		"kind 4":               func(c *Control) { c.Kind = 4 },
		"size":                 func(c *Control) { c.Size++ },
		"inline and too large": func(c *Control) { c.Inline = sized(3 * ChunkSize) },
		"bulk and too small": func(c *Control) {
			c.Size = 100
			c.Skeleton.BodyLength = 100 - c.Skeleton.HeaderLength
			c.Skeleton.Lines = 0
		},
		"padding below size": func(c *Control) { c.PaddedSize = c.Size - 1 },
		"much padding":       func(c *Control) { c.PaddedSize = 3 * c.Size },
		"bulk size":          func(c *Control) { c.BulkSize++ },
		"missing hash":       func(c *Control) { c.ChunkHashes = c.ChunkHashes[1:] },
		"no part table":      func(c *Control) { c.Skeleton = nil },
	} {
		c, err := ParseControl(good)
		if err != nil {
			t.Fatal(err)
		}
		spoil(c)
		if _, err := c.MarshalBinary(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// TestThreat83_ControlBombs: what a small record claims costs nothing.
func TestThreat83_ControlBombs(t *testing.T) {
	b := record(t, sized(3*ChunkSize))
	for at := 19; at < 70; at++ {
		bad := bytes.Clone(b)
		for i := at; i < at+4; i++ {
			bad[i] = 0xff
		}
		allocs := testing.AllocsPerRun(1, func() {
			if c, err := ParseControl(bad); err == nil {
				if again, err := c.MarshalBinary(); err != nil || !bytes.Equal(again, bad) {
					t.Errorf("octet %d: %v", at, err)
				}
			}
		})
		if allocs > 1000 {
			t.Errorf("octet %d: %v allocations", at, allocs)
		}
	}
	if _, err := ParseControl(make([]byte, MaxControl+1)); err == nil {
		t.Error("too large")
	}
}
