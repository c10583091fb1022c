package session

import (
	"errors"
	"fmt"
	"io"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/wire"
)

// errNotServing is the error of bulk reads outside a client's command.
var errNotServing = errors.New("bulk part read outside a mail client's command")

// bulkReader returns a reader of a message's bulk part, good for as long as
// the mailbox stays open.
func (s *session) bulkReader(box *mailbox, uid uint32, l overlay.Layout) *overlay.Bulk {
	name := "BODY[" + l.Bulk + "]"
	b := overlay.NewBulk(l.BulkEncoding, l.BulkOctets, func(off, n int64) ([]byte, error) {
		seq, err := s.bulkSeq(box, uid)
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return nil, nil
		}
		want := fmt.Sprintf("%s<%d>", name, off)
		item := fmt.Sprintf("UID BODY.PEEK[%s]<%d.%d>", l.Bulk, off, n)
		var data []byte
		found := false
		err = s.fetchOwn(wire.Set{{Lo: seq, Hi: seq}}, item, want, func(_ uint32, got []overlay.ResponseItem) error {
			if itemUID(got) == uid {
				data, found = overlay.FindItem(got, want).String()
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("fetch bulk part: %w", err)
		}
		if !found || int64(len(data)) > n {
			return nil, fmt.Errorf("fetch bulk part: %w", io.ErrUnexpectedEOF)
		}
		return data, nil
	})
	b.ReadAhead(s.streamer(box, uid, l))
	return b
}
