package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
)

// parents says where a submission belongs and whether what it answers or
// forwards is known here as encrypted.
func (a *account) parents(ctx context.Context, s *submission) (thread, error) {
	known := a.knows(ctx)
	th, err := a.threads.find(s.header.InReplyTo, s.header.References, known)
	if err != nil {
		return thread{}, err
	}
	if len(s.header.Forwarded) > 0 {
		forwarded, err := a.threads.find(nil, s.header.Forwarded, known)
		if err != nil {
			return thread{}, err
		}
		// Handing something on is no answer: it adds nobody to a group.
		th = thread{sealed: th.sealed || forwarded.sealed}
	}
	return th, nil
}

// carriesOpened reports whether a submission holds the status line of a
// message that was opened here: as an attachment, or quoted with its header.
func (a *account) carriesOpened(s *submission) (bool, error) {
	var lines [][]byte
	for _, first := range openedItems() {
		lines = append(lines, []byte(statusLine(a.token, first)))
	}
	return carries(s.message.Content, s.message.Size, lines...)
}

// references are all message ids that a submission names, the closest first.
func (s *submission) references() []string {
	h := s.header
	refs := slices.Concat(h.InReplyTo, h.Forwarded)
	for _, r := range slices.Backward(h.References) {
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	return refs
}

// carryWindow is how much of a message is searched at once.
const carryWindow = 64 << 10

// carries reports whether a message holds one of the needles.
func carries(r io.ReaderAt, size int64, needles ...[]byte) (bool, error) {
	overlap := 0
	for _, n := range needles {
		overlap = max(overlap, len(n)-1)
	}
	buf := make([]byte, carryWindow+overlap)
	for off := int64(0); off < size; off += carryWindow {
		b := buf[:min(int64(len(buf)), size-off)]
		if n, err := r.ReadAt(b, off); n < len(b) {
			return false, fmt.Errorf("read the message: %w", err)
		}
		for _, n := range needles {
			if bytes.Contains(b, n) {
				return true, nil
			}
		}
	}
	return false, nil
}
