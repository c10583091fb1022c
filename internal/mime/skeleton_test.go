package mime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestSkeletonRoundTrip(t *testing.T) {
	names, messages := corpus(t)
	for i, m := range messages {
		t.Run(names[i], func(t *testing.T) {
			want := parse(t, m)
			b := want.MarshalSkeleton()
			got, err := ParseSkeleton(b, DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			if err := MatchSkeleton(got, want); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(got.MarshalSkeleton(), b) {
				t.Error("other octets")
			}
			if show(structureValue(got.BodyStructure(), true)) != show(structureValue(want.BodyStructure(), true)) {
				t.Error("other body structure")
			}
		})
	}
}

func TestSkeletonRules(t *testing.T) {
	good := parse(t, []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n"))
	clone := func() *Part { return good.shift(0) }
	for _, tt := range []struct {
		name  string
		spoil func(p *Part)
	}{
		{"root elsewhere", func(p *Part) { p.HeaderOffset = 1 }},
		{"part outside", func(p *Part) { p.Children[1].BodyLength += 1000 }},
		{"overlap", func(p *Part) { p.Children[1].HeaderOffset = p.Children[0].BodyOffset }},
		{"more lines than octets", func(p *Part) { p.Children[0].Lines = 100 }},
		{"parts of a text", func(p *Part) { p.Children[0].Children = []*Part{{HeaderOffset: p.Children[0].BodyOffset}} }},
		{"message without one", func(p *Part) {
			p.Children[0].Header = []byte("Content-Type: message/rfc822\r\n\r\n")
			p.Children[0].BodyLength = 0
		}},
		{"huge", func(p *Part) { p.BodyLength = 1 << 50 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := clone()
			tt.spoil(p)
			if _, err := ParseSkeleton(p.MarshalSkeleton(), DefaultLimits); !errors.Is(err, ErrSkeleton) {
				t.Errorf("got %v", err)
			}
		})
	}
	b := good.MarshalSkeleton()
	for n := range b {
		if _, err := ParseSkeleton(b[:n], DefaultLimits); err == nil {
			t.Errorf("%d of %d octets are accepted", n, len(b))
		}
	}
	if _, err := ParseSkeleton(append(bytes.Clone(b), 0), DefaultLimits); !errors.Is(err, ErrSkeleton) {
		t.Errorf("trailing octet: %v", err)
	}
	many := bytes.Clone(b)
	binary.BigEndian.PutUint32(many[24:], 1<<31)
	var limit *LimitError
	if _, err := ParseSkeleton(many, DefaultLimits); !errors.As(err, &limit) {
		t.Errorf("many parts: %v", err)
	}
}

func TestMatchSkeletonSeesEverything(t *testing.T) {
	good := parse(t, []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: y\r\n\r\none\r\n--b--\r\n"))
	for name, spoil := range map[string]func(p *Part){
		"header":   func(p *Part) { p.Header = []byte("X: z\r\n\r\n") },
		"offset":   func(p *Part) { p.HeaderOffset++; p.BodyOffset++ },
		"length":   func(p *Part) { p.BodyLength-- },
		"lines":    func(p *Part) { p.Lines++ },
		"children": func(p *Part) { p.Children = []*Part{{}} },
	} {
		p := good.shift(0)
		spoil(p.Children[0])
		if err := MatchSkeleton(good, p); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := MatchSkeleton(good, good.shift(0)); err != nil {
		t.Error(err)
	}
}
