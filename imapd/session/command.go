package session

import (
	"bytes"
	"errors"
	"strings"

	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

// clientCommand is one command of the mail client.
type clientCommand struct {
	tag, name string
	// raw is the command with its literals inline; args is where the arguments
	// begin, without the space before them.
	raw  []byte
	args int
	// literals say where in raw the literals are.
	literals []literalPos
	// upload is set for an APPEND whose message has been announced but not
	// been read; raw ends before the announcement.
	upload *uploadLiteral
}

// literalPos locates a literal in a command: raw[announce:data] is what
// announces it, raw[data:end] its content.
type literalPos struct {
	announce, data, end int
	binary              bool
}

// uploadLiteral is an announced message.
type uploadLiteral struct {
	size    int64
	nonSync bool
}

// arguments returns the arguments with the final CRLF.
func (c *clientCommand) arguments() []byte { return c.raw[min(c.args, len(c.raw)):] }

var (
	// errBadCommand: a line that is no command; it has been answered.
	errBadCommand = errors.New("bad command")
	// errAnswered: the command needs no more treatment.
	errAnswered = errors.New("command answered")
	// errHostile: the client is no mail client; it gets no answer.
	errHostile = errors.New("not an imap client")
)

// readCommand reads the next command. Small literals are read into it, those
// of commands that are refused are skipped.
func (s *session) readCommand() (*clientCommand, error) {
	if _, err := s.cr.Wait(); err != nil {
		return nil, errGone
	}
	s.client.arm(true)
	defer s.client.arm(false)

	cmd := &clientCommand{}
	for {
		seg, err := s.cr.ReadSegment(s.cfg.Limits.CommandBytes - min(len(cmd.raw), s.cfg.Limits.CommandBytes))
		if errors.Is(err, wire.ErrTooLong) {
			s.out.lastWord("* BYE Command too long")
			return nil, errGone
		}
		if err != nil {
			return nil, errGone
		}
		first := cmd.raw == nil
		if first {
			if err := s.parseHead(cmd, &seg); err != nil {
				return nil, err
			}
		} else if !cleanText(&seg) {
			return nil, s.bad(cmd.tag, "Command line contains a control character")
		}
		if !seg.Literal {
			cmd.raw = append(cmd.raw, seg.Raw...)
			return cmd, nil
		}
		if err := s.takeLiteral(cmd, &seg); err != nil {
			return nil, err
		}
		if cmd.upload != nil {
			return cmd, nil
		}
	}
}

// parseHead reads tag and name from a command's first line.
func (s *session) parseHead(cmd *clientCommand, seg *wire.Segment) error {
	line := seg.Line()
	if !cleanText(seg) {
		// A bare CR or LF or a NUL could be the start of a second command for
		// a provider that reads line ends more liberally than we do.
		return s.bad(tagOf(line), "Command line contains a control character or a bare line end")
	}
	sc := wire.NewScanner(line)
	tag, ok := sc.While(func(c byte) bool { return wire.IsAtomByte(c) && c != '+' })
	if !ok || len(tag) > maxTag || !sc.SP() {
		return s.bad("*", "Command has no tag")
	}
	if hasPrefixFold(tag, tagPrefix) {
		return s.bad("*", "This tag is reserved")
	}
	cmd.tag = string(tag)
	name, ok := sc.While(func(c byte) bool { return wire.IsAtomByte(c) && c != '+' })
	if !ok {
		return s.bad(cmd.tag, "Command has no name")
	}
	cmd.name = strings.ToUpper(string(name))
	if cmd.name == "UID" && sc.SP() {
		if sub, ok := sc.Atom(); ok {
			cmd.name = "UID " + strings.ToUpper(string(sub))
		}
	}
	sc.SP()
	cmd.args = sc.Pos()
	return nil
}

const maxTag = 64

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && equalFold(string(b[:len(prefix)]), prefix)
}

// tagOf guesses the tag of a line that is not well-formed.
func tagOf(line []byte) string {
	tag, _, _ := bytes.Cut(line, []byte{' '})
	if len(tag) == 0 || len(tag) > maxTag {
		return "*"
	}
	for _, c := range tag {
		if !wire.IsAtomByte(c) || c == '+' {
			return "*"
		}
	}
	return string(tag)
}

// cleanText tells whether a segment has no octet that could end a line early.
func cleanText(seg *wire.Segment) bool {
	return !bytes.ContainsAny(seg.Line(), "\r\n\x00")
}

// takeLiteral decides about an announced literal and reads it if it is small.
func (s *session) takeLiteral(cmd *clientCommand, seg *wire.Segment) error {
	action := policy.Command(cmd.name)
	text := append(cmd.raw, seg.Text...)
	switch {
	case action == policy.Unknown || action == policy.Refuse:
		return s.refuseLiteral(cmd, seg, "CANNOT", "This command cannot carry content through the gateway")
	case cmd.name == "APPEND" && len(bytes.TrimSpace(text[min(cmd.args, len(text)):])) > 0:
		if seg.Size > s.cfg.Limits.UploadBytes {
			return s.refuseLiteral(cmd, seg, "TOOBIG", "Message too large")
		}
		cmd.raw = text
		cmd.upload = &uploadLiteral{size: seg.Size, nonSync: seg.NonSync}
		return nil
	}
	total := seg.Size
	for _, l := range cmd.literals {
		total += int64(l.end - l.data)
	}
	if total > s.cfg.Limits.LiteralBytes {
		return s.refuseLiteral(cmd, seg, "LIMIT", "Literal too large")
	}
	if !seg.NonSync {
		if err := s.out.line([]byte("+ OK\r\n")); err != nil {
			return errGone
		}
		s.flush()
	}
	pos := literalPos{announce: len(cmd.raw) + len(seg.Text), data: len(cmd.raw) + len(seg.Raw), binary: seg.Binary}
	cmd.raw = append(cmd.raw, seg.Raw...)
	n := int(seg.Size)
	cmd.raw = append(cmd.raw, make([]byte, n)...)
	if err := readFull(s.cr, cmd.raw[pos.data:]); err != nil {
		return errGone
	}
	pos.end = len(cmd.raw)
	if bytes.IndexByte(cmd.raw[pos.data:], 0) >= 0 && !pos.binary {
		return s.bad(cmd.tag, "Literal contains NUL")
	}
	cmd.literals = append(cmd.literals, pos)
	return nil
}

// refuseLiteral answers NO to a command at its literal. A synchronising one is
// never sent then; any other is skipped, with what follows it.
func (s *session) refuseLiteral(cmd *clientCommand, seg *wire.Segment, code, text string) error {
	next := *seg
	for next.NonSync {
		if next.Size > s.cfg.Limits.UploadBytes {
			s.out.lastWord("* BYE Literal too large")
			return errGone
		}
		if err := s.cr.Discard(next.Size); err != nil {
			return errGone
		}
		var err error
		if next, err = s.cr.ReadSegment(s.cfg.Limits.CommandBytes); err != nil {
			return errGone
		}
		if !next.Literal {
			break
		}
	}
	if err := s.no(cmd.tag, code, text); err != nil {
		return err
	}
	return errAnswered
}
