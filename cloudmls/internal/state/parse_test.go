package state

import (
	"bytes"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func FuzzParseHead(f *testing.F) {
	v := emptyView(rootMark{version: 1, since: 1, id: [32]byte{1}})
	v.counter = 1
	n := v.next([]version{{id: keyapi.ObjectID{9, 9}, counter: 1}}, nil)
	f.Add(v.head.marshal())
	f.Add(n.head.marshal())
	f.Add(n.head.marshal()[:100])
	f.Add([]byte{1, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHead(b)
		if err == nil && !bytes.Equal(h.marshal(), b) {
			t.Fatal("parse and marshal differ")
		}
	})
}

func FuzzParseObject(f *testing.F) {
	f.Add(marshalObject(Key{TypeConversation, "name", keyapi.Account{Platform: "email", ID: "a@b"}}, []byte("data")))
	f.Add(marshalObject(Key{}, nil))
	f.Add([]byte{1, 2, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, data, err := parseObject(b)
		if err == nil && !bytes.Equal(marshalObject(k, data), b) {
			t.Fatal("parse and marshal differ")
		}
	})
}

func FuzzParseKeyring(f *testing.F) {
	r, err := newKeyring()
	if err != nil {
		f.Fatal(err)
	}
	b, err := r.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"index":"","archive":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseKeyring(b); err == nil && len(r.Index) != secretSize {
			t.Fatal("a keyring without K_index")
		}
	})
}

// Names that differ in where one part ends get different ids.
func TestIDsAreUnambiguous(t *testing.T) {
	t.Parallel()
	index := make([]byte, 32)
	seen := map[keyapi.ObjectID]Key{}
	for _, k := range []Key{
		{TypeConversation, "ab", keyapi.Account{}},
		{TypeConversation, "b", keyapi.Account{ID: "a"}},
		{TypeConversation, "", keyapi.Account{Platform: "a", ID: "b"}},
		{TypeConversation, "", keyapi.Account{Platform: "ab"}},
		{TypeGroup, "ab", keyapi.Account{}},
	} {
		id := objectID(index, k)
		if other, ok := seen[id]; ok {
			t.Errorf("%v and %v have one id", k, other)
		}
		seen[id] = k
		if typeOf(id) != k.Type {
			t.Errorf("id of %v says type %d", k, typeOf(id))
		}
	}
	for ty := TypeWrap; ty <= TypeProfile; ty++ {
		if id := bootstrapID(ty); typeOf(id) != ty || bytes.Equal(id[1:], make([]byte, 31)) {
			t.Errorf("bootstrap id of type %d: %x", ty, id)
		}
	}
}

func TestNextViewLeavesTheOldOneAlone(t *testing.T) {
	t.Parallel()
	v := emptyView(rootMark{version: 1})
	var last *view
	for i := range byte(200) {
		n := v.next([]version{{id: keyapi.ObjectID{8, i % 3, i}, counter: 1}}, nil)
		n.hash = [32]byte{i}
		if i%4 == 3 {
			n = n.next(nil, []keyapi.ObjectID{{8, i % 3, i - 3}, {8, 7, 7}})
		}
		if err := v.head.verify(&v.objects); err != nil {
			t.Fatalf("step %d changed its predecessor", i)
		}
		if err := n.head.verify(&n.objects); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		last, v = v, n
	}
	if len(v.head.history) != maxHistory || v.head.history[0] != last.hash && v.counter == last.counter+1 {
		t.Errorf("history of %d heads", len(v.head.history))
	}
	if got := len(v.list(8)); got != 150 {
		t.Errorf("%d objects", got)
	}
}
