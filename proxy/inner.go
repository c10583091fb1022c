package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/mailseal"
	"github.com/cloudmls/gateway/internal/mime"
)

// innerHeader reads the header of an opened message: it is part of the control
// record, so nothing is fetched for it.
func innerHeader(msg *mailseal.Message) (*mailseal.Header, error) {
	tree := msg.Tree()
	if tree == nil {
		return nil, errors.New("message has no part table")
	}
	return mailseal.ParseHeader(tree.Header)
}

// listID is the value of the List-Id field (RFC 2919), unfolded.
func listID(header []byte) string {
	field := mime.HeaderFields(header, []string{"List-Id"}, false)
	_, value, ok := bytes.Cut(field, []byte(":"))
	if !ok {
		return ""
	}
	return strings.Join(strings.Fields(string(value)), " ")
}

// corruptReader tells imapd which read errors no repetition cures.
type corruptReader struct{ io.ReaderAt }

// ReadAt implements io.ReaderAt.
func (r corruptReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	if err != nil && err != io.EOF && errors.Is(err, mailseal.ErrCorrupt) {
		return n, fmt.Errorf("%w: %w", imapd.ErrCorrupt, err)
	}
	return n, err
}
