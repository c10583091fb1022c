package session

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"

	"github.com/cloudmls/gateway/imapd/overlay"
)

// aheadPieces is how many pieces of a bulk part wait for their reader. The relay
// goroutine holds one more.
const aheadPieces = 2

// bulkStream is a FETCH of a long range of a bulk part that comes to its reader in
// pieces, while the reader works on those before. It is the only command in
// progress; the next one ends it: what has not been taken by then is thrown away.
type bulkStream struct {
	s       *session
	c       *command
	seq     uint32
	uid     uint32
	want    string // the item that is asked for: BODY[2]<512>
	octets  int64
	size    int64 // of a piece
	pieces  chan []byte
	stop    chan struct{} // closed by the client goroutine: nobody reads on
	settled bool          // for the client goroutine: finish was called
	err     error         // of the answer; valid once c is done
}

// startStream asks for n octets of a part from off in pieces of size octets, and
// does not wait for them. For the client goroutine.
func (s *session) startStream(seq, uid uint32, part string, off, n, size int64) (*bulkStream, error) {
	b := &bulkStream{
		s: s, seq: seq, uid: uid, want: fmt.Sprintf("BODY[%s]<%d>", part, off), octets: n, size: size,
		pieces: make(chan []byte, aheadPieces), stop: make(chan struct{}),
		err: io.ErrUnexpectedEOF, // until it is answered
	}
	b.c = &command{tag: s.nextTag(), capture: true, claim: b.claim}
	if err := s.start(b.c); err != nil {
		return nil, err
	}
	if err := s.write(fmt.Appendf(nil, "%s FETCH %d (UID BODY.PEEK[%s]<%d.%d>)\r\n", b.c.tag, seq, part, off, n)); err != nil {
		return nil, err
	}
	s.flush()
	s.ahead = b
	return b, nil
}

// next returns the next piece. For the client goroutine.
func (b *bulkStream) next() ([]byte, error) {
	select {
	case p := <-b.pieces:
		return p, nil
	case <-b.c.done:
	}
	select {
	case p := <-b.pieces: // came before the end
		return p, nil
	default:
	}
	b.finish()
	switch {
	case b.c.err != nil:
		return nil, b.c.err
	case b.err != nil:
		return nil, b.err
	}
	return nil, io.EOF
}

// finish ends the command. For the client goroutine.
func (b *bulkStream) finish() {
	if b.settled {
		return
	}
	b.settled = true
	close(b.stop)
	<-b.c.done
	if b.s.ahead == b {
		b.s.ahead = nil
	}
	if b.c.err != nil {
		return
	}
	// A client that is gone shows at the next write.
	if err := b.s.passHighest(b.c); err != nil {
		b.s.report(slog.LevelDebug, "answer to reading ahead not passed on", err)
	}
}

// finishAhead ends what is read ahead: nothing else may be in progress while it is.
func (s *session) finishAhead() {
	if s.ahead != nil {
		s.ahead.finish()
	}
}

// claim takes the response with the content off the connection piece by piece; it
// is never in memory as a whole. It runs on the relay goroutine.
func (b *bulkStream) claim(r *response) (bool, error) {
	if r.name != "FETCH" || r.num != b.seq || !r.seg.Literal || r.whole != nil {
		return false, nil
	}
	head, ok := bytes.CutSuffix(r.seg.Text[min(r.rest, len(r.seg.Text)):], []byte(" "))
	if !ok || len(head) < len(b.want) || !equalFold(string(head[len(head)-len(b.want):]), b.want) {
		return false, nil
	}
	var before []overlay.ResponseItem
	if head = bytes.TrimRight(head[:len(head)-len(b.want)], " "); string(head) != "(" {
		var err error
		if before, err = overlay.ParseItems(append(bytes.Clone(head), ')')); err != nil {
			return false, nil
		}
	}
	if uid := itemUID(before); uid != 0 && uid != b.uid || r.seg.Size > b.octets {
		return false, nil // not the answer to this; skipped or passed on as any other
	}
	if err := b.take(r.seg.Size); err != nil {
		return false, err
	}
	after, err := b.rest()
	if err != nil {
		return false, err
	}
	all := append(before, after...)
	if overlay.FindItem(all, "FLAGS") != nil {
		if err := b.s.passFlags(b.seq, all); err != nil {
			return false, err
		}
	}
	b.err = nil
	if itemUID(all) != b.uid {
		b.err = errMissing
	}
	return true, nil
}

// take reads the literal and hands it on.
func (b *bulkStream) take(left int64) error {
	for left > 0 {
		select {
		case <-b.stop:
			if len(b.pieces) == cap(b.pieces) {
				return b.s.up.r.Discard(left)
			}
		default:
		}
		p := make([]byte, min(left, b.size))
		if err := readFull(b.s.up.r, p); err != nil {
			return err
		}
		left -= int64(len(p))
		select {
		case b.pieces <- p:
			continue
		default:
		}
		select {
		case b.pieces <- p:
		case <-b.stop:
			return b.s.up.r.Discard(left)
		case <-b.s.ctx.Done():
			return b.s.ctx.Err()
		}
	}
	return nil
}

// rest reads the items behind the content.
func (b *bulkStream) rest() ([]overlay.ResponseItem, error) {
	seg, err := b.s.up.r.ReadSegment(b.s.cfg.Limits.ResponseBytes)
	if err != nil {
		return nil, err
	}
	r := &response{s: b.s, seg: seg}
	if _, err := r.load(); err != nil {
		return nil, err
	}
	items, err := overlay.ParseItems(append([]byte("("), bytes.TrimLeft(r.body(), " ")...))
	if err != nil {
		return nil, errProtocol("FETCH response")
	}
	return items, nil
}

// streamer returns what asks for long ranges of a message's bulk part.
func (s *session) streamer(box *mailbox, uid uint32, l overlay.Layout) overlay.StreamFunc {
	return func(off, n, size int64) (func() ([]byte, error), error) {
		seq, err := s.bulkSeq(box, uid)
		if err != nil {
			return nil, err
		}
		b, err := s.startStream(seq, uid, l.Bulk, off, n, size)
		if err != nil {
			return nil, err
		}
		return b.next, nil
	}
}

// bulkSeq returns the sequence number under which a message's bulk part may be read
// now.
func (s *session) bulkSeq(box *mailbox, uid uint32) (uint32, error) {
	if !s.serving.Load() {
		return 0, errNotServing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.box != box || box.seqOf(uid) == 0 {
		return 0, errMissing
	}
	return box.seqOf(uid), nil
}
