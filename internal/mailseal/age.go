package mailseal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ageHeader is how every bulk part begins: the age file has one recipient
// stanza without content, because the file key travels in the control record
// (age-encryption.org/v1). A MAC of 43 characters and a line end follow.
const ageHeader = "age-encryption.org/v1\n-> cloudmls/1\n\n--- "

const (
	ageMAC      = 43 + 1
	ageNonce    = 16
	ageOverhead = 16 // of each chunk
)

// ageSize returns the number of octets of our age file with n octets in it.
func ageSize(n int64) int64 {
	return int64(len(ageHeader)) + ageMAC + ageNonce + n + ageOverhead*max(1, chunks(n))
}

// keyCapture is an age recipient that keeps the file key instead of wrapping
// it.
type keyCapture struct{ key FileKey }

// Wrap implements age.Recipient.
func (k *keyCapture) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	if len(fileKey) != len(k.key) {
		return nil, fmt.Errorf("age file key of %d octets", len(fileKey))
	}
	copy(k.key[:], fileKey)
	return []*age.Stanza{{Type: "cloudmls/1"}}, nil
}

// encryptBulk returns a reader of the age file with the octets of src, and its
// key.
func encryptBulk(src io.Reader) (io.Reader, FileKey, error) {
	var k keyCapture
	r, err := age.EncryptReader(src, &k)
	if err != nil {
		return nil, FileKey{}, fmt.Errorf("encrypt bulk part: %w", err)
	}
	return r, k.key, nil
}

// decryptBulk opens the age file in the first bulkSize octets of r, which must
// hold padded octets. It reads the beginning and the last chunk.
func decryptBulk(r io.ReaderAt, c *Control) (io.ReaderAt, error) {
	src := &source{r: r}
	start := make([]byte, len(ageHeader))
	if _, err := io.ReadFull(io.NewSectionReader(src, 0, c.BulkSize), start); err != nil {
		return nil, src.blame(err, "read bulk part")
	}
	if !bytes.Equal(start, []byte(ageHeader)) {
		return nil, fmt.Errorf("%w: bulk part is not our age file", ErrCorrupt)
	}
	key := c.FileKey
	plain, n, err := age.DecryptReaderAt(src, c.BulkSize, age.NewInjectedFileKeyIdentity(key[:]))
	if err != nil {
		return nil, src.blame(err, "open bulk part")
	}
	if n != c.PaddedSize {
		return nil, fmt.Errorf("%w: bulk part holds %d octets, not %d", ErrCorrupt, n, c.PaddedSize)
	}
	return &plainText{src: src, r: plain}, nil
}

// source is what an age file is read from. It tells errors of the source, a
// lost connection say, from errors of the content. It serves one reader at a
// time.
type source struct {
	r      io.ReaderAt
	failed error // of the source, since the last blame
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	switch {
	case n == len(p):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		return n, io.EOF // the content is too short
	default:
		s.failed = err
		return n, err
	}
}

// blame returns the error of the source if it had one, else says that the
// content is corrupt.
func (s *source) blame(err error, doing string) error {
	if failed := s.failed; failed != nil {
		s.failed = nil
		return fmt.Errorf("%s: %w", doing, failed)
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, doing, err)
}

// plainText is the content of an age file. It serves one reader at a time.
type plainText struct {
	src *source
	r   io.ReaderAt
}

func (p *plainText) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.r.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return 0, p.src.blame(err, "decrypt bulk part")
}
