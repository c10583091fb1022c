package session

import (
	"bytes"
	"fmt"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/wire"
)

// controlPart is what one fetch brings of a sealed message.
type controlPart struct {
	header, mime, content []byte
	// oversize: one of them is longer than any of ours, and was not read to its
	// end.
	oversize bool
}

// maxPartHeader bounds the MIME header of a control part; ours has two lines.
const maxPartHeader = 64 << 10

// fetchControls fetches the outer headers and the control parts of messages
// that have them at the same place, or nowhere: path is "" then. It asks for no
// more than may be in one response, whatever somebody has sent.
func (s *session) fetchControls(box *mailbox, path string, uids []uint32) (map[uint32]*controlPart, error) {
	limit := s.cfg.Limits.ResponseBytes
	header, part := limit/8, min(maxPartHeader, limit/16)
	pieces := []struct {
		section string
		max     int
		dst     func(*controlPart) *[]byte
	}{
		{"HEADER", header, func(p *controlPart) *[]byte { return &p.header }},
		{path + ".MIME", part, func(p *controlPart) *[]byte { return &p.mime }},
		{path, limit - header - part - limit/16, func(p *controlPart) *[]byte { return &p.content }},
	}
	if path == "" {
		pieces = pieces[:1]
	}
	items, last := "UID", ""
	for _, piece := range pieces {
		items += fmt.Sprintf(" BODY.PEEK[%s]<0.%d>", piece.section, piece.max)
		last = "BODY[" + piece.section + "]<0>"
	}
	parts := make(map[uint32]*controlPart, len(uids))
	err := s.fetchOwn(s.seqSet(box, uids), items, last, func(_ uint32, got []overlay.ResponseItem) error {
		p := &controlPart{}
		for _, piece := range pieces {
			if it := overlay.FindItem(got, "BODY["+piece.section+"]<0>"); it != nil {
				text, _ := it.String()
				*piece.dst(p) = text
				p.oversize = p.oversize || len(text) >= piece.max
			}
		}
		if p.oversize {
			p.header = wholeLines(p.header)
		}
		parts[itemUID(got)] = p
		return nil
	})
	return parts, err
}

// wholeLines returns a header that was cut off up to its last whole line, and
// ends it.
func wholeLines(header []byte) []byte {
	if bytes.HasSuffix(header, []byte("\r\n\r\n")) {
		return header
	}
	end := bytes.LastIndexByte(header, '\n') + 1
	return append(bytes.Clone(header[:end]), "\r\n"...)
}

// seqSet returns the sequence numbers of messages; those that are gone are
// left out.
func (s *session) seqSet(box *mailbox, uids []uint32) wire.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	seqs := make([]uint32, 0, len(uids))
	for _, uid := range uids {
		if n := box.seqOf(uid); n > 0 {
			seqs = append(seqs, n)
		}
	}
	return wire.SetOf(seqs)
}

// sealedMessage is what the backend gets to open.
func (s *session) sealedMessage(box *mailbox, uid uint32, entry *sealedEntry, p *controlPart) (overlay.SealedMessage, error) {
	if !entry.layout.Complete() || p.oversize {
		return overlay.SealedMessage{
			Mailbox: box.name, UIDValidity: box.uidValidity, UID: uid, Header: bytes.Clone(p.header), Damaged: true,
		}, nil
	}
	control, err := overlay.DecodeAll(overlay.Encoding(p.mime), p.content, overlay.MaxControl)
	if err != nil {
		// Not a reason to fail: the backend makes a stub of what it gets.
		control = nil
	}
	m := overlay.SealedMessage{
		Mailbox:     box.name,
		UIDValidity: box.uidValidity,
		UID:         uid,
		Header:      bytes.Clone(p.header),
		Control:     control,
	}
	if entry.layout.HasBulk() {
		m.Bulk = s.bulkReader(box, uid, entry.layout)
	}
	return m, nil
}
