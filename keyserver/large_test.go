package keyserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestLargeGateShares: neither one user nor many fill the room for octets, and
// what has left counts no longer.
func TestLargeGateShares(t *testing.T) {
	g := largeGate{}
	one := UserID{1}
	var total int64
	for i := range 200 { // each takes what is to be had
		u := UserID{3, byte(i)}
		for g.enter(u, largeBody-1) {
			total += largeBody - 1
		}
	}
	if total > octetsOfAll {
		t.Errorf("%d octets of bodies are in memory", total)
	}
	if !g.enter(UserID{4}, 64<<10) {
		t.Error("after all these a new user cannot send the body of an acknowledgement")
	}

	g = largeGate{}
	if !g.enter(one, keyapi.MaxTxSize) || !g.enter(one, keyapi.MaxTxSize) || g.enter(one, largeBody-1) && g.enter(one, largeBody-1) {
		t.Error("one user has not room for two of the longest transactions, or for more")
	}
	g.leave(one, keyapi.MaxTxSize)
	g.leave(one, keyapi.MaxTxSize)
	g.leave(one, largeBody-1)
	if g.all != 0 || len(g.users) != 0 {
		t.Errorf("all have left, and %d, %v remain", g.all, g.users)
	}
}

// TestLargeGateTurns: of what is worked on, one user has two, and all have eight;
// the next ones wait until one is done.
func TestLargeGateTurns(t *testing.T) {
	var g largeGate
	begin := func(u byte) <-chan bool {
		began := make(chan bool, 1)
		go func() { began <- g.begin(t.Context(), UserID{u}) }()
		return began
	}
	for u := range byte(largeBodies / largeOfOne) {
		for range largeOfOne {
			if !<-begin(u) {
				t.Fatalf("user %d has to wait", u)
			}
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, u := range []byte{0, 9} {
		if _, ok := g.tryBegin(UserID{u}); ok || g.begin(gone, UserID{u}) {
			t.Errorf("user %d begins one too many", u)
		}
	}
	next := begin(9)
	g.end(UserID{0})
	if !<-next {
		t.Error("the next user's turn does not come")
	}
	g.end(UserID{1})
	if _, ok := g.tryBegin(UserID{2}); ok {
		t.Error("a user has three")
	}
	for u, n := range map[byte]int{0: 1, 1: 1, 2: 2, 3: 2, 9: 1} {
		for range n {
			g.end(UserID{u})
		}
	}
	if g.total != 0 || len(g.large) != 0 {
		t.Errorf("all are done, and %d, %v remain", g.total, g.large)
	}
}

// stream is a body that comes in pieces; the time between them is the server's.
type stream struct {
	pieces []string
	then   error
	wait   func()
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		if s.wait != nil {
			s.wait()
		}
		return 0, s.then
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func receiveFrom(g *largeGate, s *stream, length, limit int64) (*receivedBody, *problem) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Body, r.ContentLength = io.NopCloser(s), length
	b := &receivedBody{gate: g, user: UserID{1}}
	return b, b.receive(r, http.NewResponseController(httptest.NewRecorder()), limit, receiveWindow)
}

// TestReceivedBody: what has come is what is read, and counts until it is dropped;
// what is announced counts not at all.
func TestReceivedBody(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 100_000)
	for _, length := range []int64{-1, int64(len(text))} {
		var g largeGate
		b, p := receiveFrom(&g, &stream{pieces: []string{text[:1], text[1:300_000], text[300_000:]}, then: io.EOF}, length, 2<<20)
		if p != nil {
			t.Fatal(p)
		}
		if g.all < int64(len(text)) || g.all > int64(len(text))+receiveChunk {
			t.Errorf("%d octets count as %d", len(text), g.all)
		}
		got, err := io.ReadAll(b)
		if err != nil || string(got) != text {
			t.Errorf("read %d octets, %v", len(got), err)
		}
		b.drop()
		if g.all != 0 {
			t.Errorf("%d octets are left", g.all)
		}
	}
	var g largeGate
	for _, row := range []struct {
		name          string
		s             stream
		length, limit int64
		status        int
		detail        string
	}{
		{"announced too long", stream{}, 100, 100, 413, "too large"},
		{"too long", stream{pieces: []string{text}}, -1, 100_000, 413, "too large"},
		{"cut off", stream{pieces: []string{"x"}, then: io.ErrUnexpectedEOF}, 70_000, 1 << 20, 429, "whole"},
		{"no room", stream{then: io.EOF}, 2 * octetsOfOne, 4 * octetsOfOne, 429, "too many"},
	} {
		b, p := receiveFrom(&g, &row.s, row.length, row.limit)
		if p == nil || p.Status != row.status || !strings.Contains(p.Detail, row.detail) {
			t.Errorf("%s: %+v", row.name, p)
		}
		if p != nil && p.Status == 429 && p.retryAfter == 0 {
			t.Errorf("%s: no Retry-After", row.name)
		}
		b.drop()
	}
	waiting := &stream{pieces: []string{"x"}, then: io.EOF}
	waiting.wait = func() {
		if g.all > receiveChunk {
			t.Errorf("a body of which one octet has come counts as %d", g.all)
		}
	}
	b, p := receiveFrom(&g, waiting, keyapi.MaxTxSize-1, keyapi.MaxTxSize)
	if p != nil {
		t.Error(p)
	}
	if b.drop(); g.all != 0 {
		t.Errorf("%d octets are left", g.all)
	}
}

// paced is a connection whose deadlines are written down.
type paced struct {
	httptest.ResponseRecorder
	deadlines []time.Time
}

func (p *paced) SetReadDeadline(t time.Time) error {
	p.deadlines = append(p.deadlines, t)
	return nil
}

type timedOut struct{ error }

func (timedOut) Timeout() bool { return true }

// TestSlowBodiesAreCutOff: the deadline moves on only for who brings enough, and
// never beyond the time that a body has; afterwards it is that of the request.
func TestSlowBodiesAreCutOff(t *testing.T) {
	begin := time.Now()
	run := func(s *stream, window time.Duration) ([]time.Time, *problem) {
		w, r := &paced{}, httptest.NewRequest(http.MethodPost, "/", nil)
		r.Body, r.ContentLength = io.NopCloser(s), keyapi.MaxTxSize-1
		b := &receivedBody{gate: &largeGate{}, user: UserID{1}}
		p := b.receive(r, http.NewResponseController(w), keyapi.MaxTxSize, window)
		return w.deadlines, p
	}
	enough, little := strings.Repeat("x", receiveLeast), strings.Repeat("x", receiveLeast-1)
	got, p := run(&stream{pieces: []string{little}, then: timedOut{errors.New("deadline")}}, time.Minute)
	if p == nil || p.Status != http.StatusTooManyRequests || !strings.Contains(p.Detail, "slowly") || len(got) != 1 {
		t.Errorf("too little in the first window: %+v, %d deadlines", p, len(got))
	}
	if got[0].Before(begin.Add(time.Minute)) || got[0].After(begin.Add(bodyTimeout)) {
		t.Errorf("the first window ends at %v", got[0].Sub(begin))
	}
	if got, p = run(&stream{pieces: []string{enough, enough, little}, then: io.EOF}, time.Minute); p != nil || len(got) != 4 {
		t.Errorf("enough in two windows, and the end in the third: %+v, %d deadlines", p, len(got))
	}
	if last := got[len(got)-1]; last.Before(begin.Add(bodyTimeout)) || last.After(time.Now().Add(bodyTimeout)) {
		t.Errorf("afterwards the request has %v", last.Sub(begin))
	}
	got, _ = run(&stream{pieces: []string{enough}, then: io.EOF}, 10*bodyTimeout)
	for _, d := range got {
		if d.After(time.Now().Add(bodyTimeout)) {
			t.Errorf("a body has %v", d.Sub(begin))
		}
	}
}
