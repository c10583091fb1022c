package mailtest

import (
	"net"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
)

// Point is where a provider can be made to fail.
type Point string

// Points of the submission server, in the order of a transaction.
const (
	SMTPConnect  Point = "smtp connect"  // before the greeting; only Close and Wait
	SMTPHello    Point = "smtp hello"    // at EHLO
	SMTPAuth     Point = "smtp auth"     // at AUTH
	SMTPMail     Point = "smtp mail"     // at MAIL
	SMTPRcpt     Point = "smtp rcpt"     // at RCPT; Match is the recipient
	SMTPData     Point = "smtp data"     // at DATA, before 354; only Close and Wait
	SMTPContent  Point = "smtp content"  // inside the content, after its first octets
	SMTPReceived Point = "smtp received" // the content is complete, nothing stored
	SMTPStored   Point = "smtp stored"   // delivered, but not yet answered
)

// Points of the IMAP server. Match is the mailbox named in the command, or for
// commands in a selected mailbox that one.
const (
	IMAPConnect Point = "imap connect" // before the greeting
	IMAPLogin   Point = "imap login"
	IMAPSelect  Point = "imap select"
	IMAPList    Point = "imap list"
	IMAPStatus  Point = "imap status"
	IMAPCreate  Point = "imap create"
	IMAPAppend  Point = "imap append" // the literal was read, nothing stored
	IMAPFetch   Point = "imap fetch"
	IMAPSearch  Point = "imap search"
	IMAPStore   Point = "imap store"
	IMAPCopy    Point = "imap copy" // COPY and MOVE
	IMAPExpunge Point = "imap expunge"
)

// Fault says what happens at a point. The fields apply in this order.
type Fault struct {
	At Point
	// Match narrows the fault to one recipient or mailbox; empty means any.
	Match string
	// Skip lets that many events pass first.
	Skip int
	// Times is how often the fault happens; 0 means until it is removed.
	Times int
	// Reached, if set, is called when the fault happens.
	Reached func()
	// Wait, if set, holds the provider until it is closed or yields.
	Wait <-chan struct{}
	// Close closes the connection.
	Close bool
	// Code, Enhanced and Text are the SMTP reply; Code 0 lets the command go on.
	Code     int
	Enhanced [3]int
	Text     string
	// Status is the IMAP answer, "NO" or "BAD", with Text; empty lets the
	// command go on.
	Status string
}

type faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Inject arms a fault and returns a function that removes it.
func (p *Provider) Inject(f Fault) (remove func()) {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	armed := &f
	p.faults.list = append(p.faults.list, armed)
	return func() {
		p.faults.mu.Lock()
		defer p.faults.mu.Unlock()
		p.faults.drop(armed)
	}
}

func (fs *faults) drop(f *Fault) {
	for i, have := range fs.list {
		if have == f {
			fs.list = append(fs.list[:i:i], fs.list[i+1:]...)
			return
		}
	}
}

// take returns the first fault armed for an event, or nil.
func (fs *faults) take(at Point, match string) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if f.At != at || f.Match != "" && f.Match != match {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		taken := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				fs.drop(f)
			}
		}
		return &taken
	}
	return nil
}

// strike runs the part of a fault that both protocols share and reports
// whether the connection was closed.
func (f *Fault) strike(conn net.Conn, stop <-chan struct{}) (closed bool) {
	if f.Reached != nil {
		f.Reached()
	}
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-stop:
		}
	}
	if f.Close && conn != nil {
		_ = conn.Close() // the point of the exercise
	}
	return f.Close
}

// smtp runs the fault at a point of an SMTP session.
func (p *Provider) smtpFault(at Point, match string, conn net.Conn) error {
	f := p.faults.take(at, match)
	if f == nil {
		return nil
	}
	if f.strike(conn, p.done) {
		return net.ErrClosed
	}
	if f.Code == 0 {
		return nil
	}
	enhanced := smtp.EnhancedCode(f.Enhanced)
	if f.Enhanced == [3]int{} {
		enhanced = smtp.NoEnhancedCode
	}
	return &smtp.SMTPError{Code: f.Code, EnhancedCode: enhanced, Message: f.Text}
}

// imapFault runs the fault at a point of an IMAP session.
func (p *Provider) imapFault(at Point, match string, conn net.Conn) error {
	f := p.faults.take(at, match)
	if f == nil {
		return nil
	}
	if f.strike(conn, p.done) {
		return net.ErrClosed
	}
	if f.Status == "" {
		return nil
	}
	return &imap.Error{Type: imap.StatusResponseType(f.Status), Text: f.Text}
}
