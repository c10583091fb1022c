package session

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloudmls/gateway/imapd/wire"
	"github.com/cloudmls/gateway/internal/spool"
)

// appendArgs are the arguments of APPEND before the message.
type appendArgs struct {
	mailbox string
	// name is the mailbox as the client wrote it, safe to send on.
	name  []byte
	flags []string
	date  string
}

// parseAppend reads mailbox, flags and date (RFC 9051 section 6.3.12).
func parseAppend(args []byte) (*appendArgs, bool) {
	a := &appendArgs{}
	var ok bool
	if a.mailbox, ok = mailboxName(args); !ok {
		return nil, false
	}
	sc := wire.NewScanner(args)
	name, _ := sc.AString()
	if !wire.Quotable(name) {
		return nil, false
	}
	a.name = wire.AppendAString(nil, name)
	if !sc.SP() {
		return nil, false
	}
	if sc.Peek() == '(' {
		list, err := sc.Value()
		if err != nil || !sc.SP() || strings.ContainsAny(string(list[1:len(list)-1]), "()\"{") {
			return nil, false
		}
		a.flags = withoutOwn(strings.Fields(string(list[1 : len(list)-1])))
	}
	if sc.Peek() == '"' {
		date, ok := sc.String()
		if !ok || !sc.SP() || !wire.Quotable(date) {
			return nil, false
		}
		a.date = string(date)
	}
	return a, sc.End()
}

// append runs APPEND: the message is spooled, sealed, and the sealed message
// stored at the provider. When sealing fails nothing is stored.
func (s *session) append(cmd *clientCommand) error {
	if cmd.upload == nil {
		return s.bad(cmd.tag, "APPEND takes a message literal")
	}
	args, ok := parseAppend(cmd.arguments())
	if !ok {
		return s.refuseUpload(cmd, "CANNOT", "This form of APPEND is not available through the gateway")
	}
	if !cmd.upload.nonSync {
		if err := s.out.line([]byte("+ OK\r\n")); err != nil {
			return errGone
		}
		s.flush()
	}
	content := spool.New(s.cfg.SpoolDir, s.cfg.Limits.SpoolMemory)
	defer func() {
		if err := content.Close(); err != nil {
			s.log.Warn("close spool", "error", err)
		}
	}()
	end, spoolErr, err := s.readUpload(cmd.upload.size, content)
	if err != nil {
		return err
	}
	if end.Literal || len(end.Line()) > 0 {
		cmd.upload = &uploadLiteral{size: end.Size, nonSync: end.Literal && end.NonSync}
		return s.refuseUpload(cmd, "CANNOT", "One APPEND stores one message")
	}
	if spoolErr != nil {
		return fmt.Errorf("spool message: %w", spoolErr)
	}
	return s.storeUpload(cmd.tag, args, content)
}

// readUpload reads the message into the spool, and the line behind it. Where
// the spool fails the message is read to its end all the same.
func (s *session) readUpload(size int64, content *spool.Spool) (end wire.Segment, spoolErr, err error) {
	s.client.arm(true)
	defer s.client.arm(false)
	w := &failOnce{w: content}
	if err := s.cr.CopyLiteral(w, size); err != nil {
		return end, nil, errGone
	}
	end, err = s.cr.ReadSegment(s.cfg.Limits.CommandBytes)
	if err != nil {
		return end, nil, errGone
	}
	return end, w.err, nil
}

// failOnce keeps the first error of w and swallows what comes after it.
type failOnce struct {
	w   io.Writer
	err error
}

func (f *failOnce) Write(p []byte) (int, error) {
	if f.err == nil {
		_, f.err = f.w.Write(p)
	}
	return len(p), nil
}

// refuseUpload answers NO to an APPEND whose literal has been announced but
// not read.
func (s *session) refuseUpload(cmd *clientCommand, code, text string) error {
	seg := wire.Segment{Literal: true, Size: cmd.upload.size, NonSync: cmd.upload.nonSync}
	err := s.refuseLiteral(cmd, &seg, code, text)
	if errors.Is(err, errAnswered) {
		return nil
	}
	return err
}

// storeUpload seals the message and stores it at the provider.
func (s *session) storeUpload(tag string, args *appendArgs, content *spool.Spool) error {
	sealed, err := s.acct.SealUpload(s.ctx, Upload{
		Mailbox:      args.mailbox,
		Flags:        args.flags,
		InternalDate: args.date,
		Size:         content.Size(),
		Content:      content,
	})
	if err != nil {
		return fmt.Errorf("seal upload: %w", err)
	}
	if sealed == nil {
		sealed = &SealedUpload{Content: io.NewSectionReader(content, 0, content.Size()), Size: content.Size()}
	}
	if sealed.Close != nil {
		defer func() {
			if err := sealed.Close(); err != nil {
				s.log.Warn("close sealed upload", "error", err)
			}
		}()
	}
	c := &command{tag: tag}
	line := append([]byte(tag+" APPEND "), args.name...)
	line = append(line, ' ')
	if len(args.flags) > 0 {
		line = append(line, "("+strings.Join(args.flags, " ")+") "...)
	}
	if args.date != "" {
		line = append(wire.AppendQuoted(line, []byte(args.date)), ' ')
	}
	if err := s.upload(c, line, sealed.Content, sealed.Size); err != nil {
		return err
	}
	s.watchUpload(c)
	if c.status == "OK" && sealed.Stored != nil {
		sealed.Stored()
	}
	return nil
}

// upload sends an APPEND: its line up to the message, and the message. It
// waits for the answer.
func (s *session) upload(c *command, line []byte, content io.Reader, size int64) error {
	if err := s.start(c); err != nil {
		return err
	}
	if err := s.write(line); err != nil {
		return err
	}
	ok, err := s.announce(c, size, false, true)
	if err != nil || !ok {
		return err
	}
	n, err := io.CopyN(s.up.w, content, size)
	if err != nil {
		// Half a literal cannot be taken back: without the rest the provider
		// stores nothing.
		s.up.conn.Close()
		return s.lost(fmt.Errorf("send %d of %d octets: %w", n, size, err))
	}
	if err := s.write([]byte("\r\n")); err != nil {
		return err
	}
	return s.wait(c)
}
