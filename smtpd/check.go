package smtpd

import "errors"

// errBareLineEnd and errNUL are what makes content unacceptable: mail systems
// disagree on where such a message ends (SMTP smuggling).
var (
	errBareLineEnd = errors.New("bare CR or LF in message")
	errNUL         = errors.New("NUL in message")
)

// checker reads content as it passes and finds what RFC 5321 sections 2.3.8
// and 4.5.2 forbid, at any split of the stream.
type checker struct {
	prev     byte
	line     int
	longest  int
	eightBit bool
}

// Write implements io.Writer; its error is errBareLineEnd or errNUL.
func (c *checker) Write(p []byte) (int, error) {
	prev, line := c.prev, c.line
	for i, b := range p {
		switch {
		case b == '\n':
			if prev != '\r' {
				return i, errBareLineEnd
			}
			c.longest = max(c.longest, line-1) // without the CR
			line = 0
			prev = b
			continue
		case prev == '\r':
			return i, errBareLineEnd
		case b == 0:
			return i, errNUL
		case b >= 0x80:
			c.eightBit = true
		}
		line++
		prev = b
	}
	c.prev, c.line = prev, line
	return len(p), nil
}

// finish ends the content.
func (c *checker) finish() error {
	if c.prev == '\r' {
		return errBareLineEnd
	}
	c.longest = max(c.longest, c.line)
	return nil
}
