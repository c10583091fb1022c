package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// relay carries transactions to one provider, over a connection that it keeps
// between them. It is not safe for concurrent use.
type relay struct {
	upstream func() Upstream
	t        Timeouts
	l        *link // nil while there is none

	generation uint64 // of the settings that l was made under
	watcher    func(error)
}

// connect makes sure that there is a connection.
func (r *relay) connect(ctx context.Context) error {
	if r.l != nil {
		return nil
	}
	up := r.upstream()
	r.generation, r.watcher = up.Generation, up.Report
	l, err := dial(ctx, up, r.t)
	r.report(ctx, err)
	if err != nil {
		return err
	}
	r.l = l
	return nil
}

// drop gives the connection up.
func (r *relay) drop() {
	if r.l != nil {
		_ = r.l.conn.Close() // it is of no further use
		r.l = nil
	}
}

// close ends the connection politely.
func (r *relay) close() {
	if r.l != nil {
		r.l.close()
		r.l = nil
	}
}

// watch closes the connection when ctx ends; the library knows no contexts.
func (r *relay) watch(ctx context.Context) (stop func() bool) {
	l := r.l
	return context.AfterFunc(ctx, func() { _ = l.conn.Close() })
}

// retryOnce runs step, and once more on a new connection if the old one turned
// out to be broken: providers close connections that were idle. Only steps
// before the content are run again, so nothing is ever sent twice.
func (r *relay) retryOnce(ctx context.Context, step func() error) error {
	for attempt := 0; ; attempt++ {
		old := r.l != nil && r.l.used
		if err := r.connect(ctx); err != nil {
			return err
		}
		stop := r.watch(ctx)
		err := step()
		stop()
		var link *linkError
		if !errors.As(err, &link) {
			return err
		}
		r.drop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !old || attempt > 0 {
			r.report(ctx, err)
			return err
		}
	}
}

// begin opens a transaction: MAIL.
func (r *relay) begin(ctx context.Context, o opening) error {
	return r.retryOnce(ctx, func() error { return r.l.begin(o) })
}

// recipient adds a recipient to the open transaction: RCPT.
func (r *relay) recipient(ctx context.Context, o opening, earlier []string, rcpt string) error {
	return r.retryOnce(ctx, func() error {
		return r.l.open(o, append(slices.Clone(earlier), rcpt))
	})
}

// send runs one transaction and returns the provider's final reply. An open
// transaction with the same envelope is continued.
func (r *relay) send(ctx context.Context, t Transaction) (*reply, error) {
	err := r.retryOnce(ctx, func() error {
		switch {
		case t.UTF8 && !r.l.utf8:
			return errNoUTF8
		case t.EightBit && !r.l.eightBit:
			return errNoEightBit
		case r.l.size > 0 && t.Size > r.l.size:
			return &Refusal{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: fmt.Sprintf(
				"the message has %d octets as it would be sent, and your mail provider takes %d at most; nothing was sent",
				t.Size, r.l.size)}
		}
		return r.l.open(openingOf(t), t.Recipients)
	})
	if err != nil {
		return nil, err
	}
	content, err := t.Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer func() { _ = content.Close() }() // it was only read
	var data *smtp.DataCommand
	err = r.retryOnce(ctx, func() error {
		// On a new connection the whole transaction starts again.
		if err := r.l.open(openingOf(t), t.Recipients); err != nil {
			return err
		}
		var err error
		if data, err = r.l.client.Data(); err != nil {
			return r.l.broken("start the content", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	stop := r.watch(ctx)
	defer stop()
	said, err := r.l.content(data, content, t.Size)
	var link *linkError
	if errors.As(err, &link) || errors.Is(err, errContent) {
		r.drop()
	}
	if link != nil {
		r.report(ctx, err)
	}
	if err != nil && ctx.Err() != nil && (link == nil || !link.unknown) {
		return nil, ctx.Err()
	}
	return said, err
}

// begin says MAIL, after RSET if a transaction is open.
func (l *link) begin(o opening) error {
	switch {
	case o.utf8 && !l.utf8:
		return errNoUTF8
	case o.asks() && !l.dsn:
		return errNoDSN
	}
	l.conn.heard.Store(0)
	if l.begun {
		if err := l.client.Reset(); err != nil {
			return l.broken("reset", err)
		}
	}
	l.opening, l.rcpts, l.begun = opening{}, nil, false
	// 8BITMIME is asked for by the library wherever it is offered; SIZE stays
	// out because the sealed size is not known yet.
	if err := l.client.Mail(o.from, o.mailOptions()); err != nil {
		return l.broken("name the sender", err)
	}
	l.opening, l.begun, l.used = o, true, true
	return nil
}

// open makes the transaction under way one with exactly this envelope. What is
// there already is kept.
func (l *link) open(o opening, rcpts []string) error {
	same := l.begun && l.opening.sameMail(o) &&
		len(l.rcpts) <= len(rcpts) && slices.Equal(l.rcpts, rcpts[:len(l.rcpts)])
	if !same {
		if err := l.begin(o); err != nil {
			return err
		}
	}
	for _, rcpt := range rcpts[len(l.rcpts):] {
		options := o.rcptOptions(rcpt)
		if options != nil && !l.dsn {
			return errNoDSN
		}
		if err := l.client.Rcpt(rcpt, options); err != nil {
			return l.broken("name a recipient", err)
		}
		l.rcpts = append(l.rcpts, rcpt)
	}
	return nil
}

// errContent says that the content could not be sent for a reason of its own.
// The connection is closed without an end of data, so the provider drops what
// it got.
var errContent = errors.New("content not sent")

// content sends the octets of the message and returns the final reply.
func (l *link) content(data *smtp.DataCommand, r io.Reader, size int64) (*reply, error) {
	l.begun, l.opening, l.rcpts = false, opening{}, nil
	check := &checker{}
	source := &sourceReader{r: io.TeeReader(r, check)}
	n, err := io.Copy(data, source)
	switch {
	case err != nil && source.err != nil:
		return nil, fmt.Errorf("%w: %w", errContent, source.err)
	case err != nil:
		return nil, l.broken("send the content", err)
	case n != size:
		return nil, fmt.Errorf("%w: %d octets instead of %d", errContent, n, size)
	}
	if err := check.finish(); err != nil {
		return nil, fmt.Errorf("%w: %w", errContent, err)
	}
	crashpoint.Here("content-sent")
	response, err := data.CloseWithResponse()
	if err != nil {
		var other *smtp.SMTPError
		if errors.As(err, &other) && other.Code/100 == 2 {
			return newReply(other.Code, other.Message), nil // taken, with another code
		}
		if said := fromClient(err); said != nil {
			return nil, said
		}
		return nil, &linkError{host: l.host, stage: "wait for the final reply", err: err, unknown: true}
	}
	return newReply(250, response.StatusText), nil
}

// sourceReader remembers an error of the content, to tell it from one of the
// connection.
type sourceReader struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
