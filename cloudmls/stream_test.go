package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// TestStreams: content of any size travels as a bulk and a small message, to all
// members and devices; a bulk that was tampered with gives nothing wrong.
func TestStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := alice.ensureGroup(newID(t), bob, carol).ID
	bob.cleanSync()
	carol.cleanSync()
	sibling := alice.sibling()
	sizes := map[int]bool{}
	for _, n := range []int{0, 1, 200, 65536, 300001} {
		data := bytes.Repeat([]byte{0, 0xff, 'x', '\n', 7}, n/5+1)[:n]
		var bulk bytes.Buffer
		m, err := alice.EncryptStream(t.Context(), alice.self, id, &bulk, bytes.NewReader(data), []byte("aad"))
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(m)] = true
		for _, d := range []*device{bob, carol, alice, sibling} {
			s, err := d.DecryptStream(t.Context(), d.self, m, bytes.NewReader(bulk.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, data) || s.Size != int64(n) {
				t.Errorf("%s: %d octets of %d, size %d, %v", d.self, len(got), n, s.Size, err)
			}
			p := s.Message
			if p.Data != nil || string(p.AAD) != "aad" || !p.Verified || p.Sender != alice.self || p.Conversation != id {
				t.Errorf("%s: %+v", d.self, p)
			}
		}
		altered := bytes.Clone(bulk.Bytes())
		altered[len(altered)/2] ^= 1
		s, err := bob.DecryptStream(t.Context(), bob.self, m, bytes.NewReader(altered))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); !errors.Is(err, ErrStreamCorrupt) || !bytes.HasPrefix(data, got) || len(got) >= max(1, n) {
			t.Errorf("altered: %d octets of %d, %v", len(got), n, err)
		}
	}
	if len(sizes) != 1 {
		t.Errorf("messages have sizes %v, whatever the bulk", sizes)
	}
	plain := alice.encrypt(id, "no stream")
	if _, err := bob.DecryptStream(t.Context(), bob.self, plain, nil); !errors.Is(err, ErrNotStream) {
		t.Errorf("a message without a bulk: %v", err)
	}
}

// TestThreat29_StreamSizes: the bulk's size tells little of the content's.
func TestThreat29_StreamSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.ensureGroup(newID(t)).ID
	seen := map[int]int{}
	for n := 100_000; n < 101_000; n += 100 {
		var bulk bytes.Buffer
		if _, err := alice.EncryptStream(t.Context(), alice.self, id, &bulk, bytes.NewReader(make([]byte, n)), nil); err != nil {
			t.Fatal(err)
		}
		seen[bulk.Len()]++
		if bulk.Len() < n || bulk.Len() > n+n*12/100+4096 {
			t.Errorf("%d octets take %d", n, bulk.Len())
		}
	}
	if len(seen) > 2 {
		t.Errorf("ten sizes have bulks of %v octets", seen)
	}
}

// TestStreamsFailClosed: where nothing may be sent, nothing is written.
func TestStreamsFailClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	var bulk bytes.Buffer
	m, err := alice.EncryptStream(t.Context(), alice.self, newID(t), &bulk, bytes.NewReader([]byte("secret")), nil)
	if !errors.Is(err, ErrNoConversation) || m != nil || bulk.Len() != 0 {
		t.Errorf("no conversation: %d octets, %v", bulk.Len(), err)
	}
	id := alice.ensureGroup(newID(t)).ID
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := alice.EncryptStream(ctx, alice.self, id, &bulk, bytes.NewReader(nil), nil); err == nil || m != nil {
		t.Error("a cancelled call succeeds")
	}
}
