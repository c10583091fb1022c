package mailtest

import (
	"bytes"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

func (p *Provider) newIMAP() *imapserver.Server {
	o := &imapserver.Options{
		NewSession: func(c *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &imapSession{p: p, conn: c.NetConn()}, &imapserver.GreetingData{}, nil
		},
		Caps: imap.CapSet{
			imap.CapIMAP4rev1: {}, imap.CapNamespace: {}, imap.CapUIDPlus: {}, imap.CapESearch: {},
			imap.CapSearchRes: {}, imap.CapListExtended: {}, imap.CapListStatus: {}, imap.CapMove: {},
			imap.CapStatusSize: {}, imap.CapChildren: {}, imap.CapSpecialUse: {},
			imap.CapCreateSpecialUse: {}, imap.CapLiteralPlus: {},
		},
		Logger:       printfLogger{p.log},
		InsecureAuth: p.security != StartTLS,
	}
	if p.security == StartTLS {
		o.TLSConfig = p.tls
	}
	return imapserver.New(o)
}

func (p *Provider) wrapIMAP(ln net.Listener) net.Listener {
	if p.security == ImplicitTLS {
		return tls.NewListener(ln, p.tls)
	}
	return ln
}

// printfLogger lets go-imap and go-smtp log at debug level: what they report is
// the tests' own doing.
type printfLogger struct{ log *slog.Logger }

func (l printfLogger) Printf(format string, args ...any) {
	l.log.Debug("library", "text", fmt.Sprintf(format, args...))
}

func (l printfLogger) Println(args ...any) { l.log.Debug("library", "text", fmt.Sprintln(args...)) }

// imapSession adds faults, raw records and special-use mailboxes to a session
// of the memory server.
type imapSession struct {
	*imapmemserver.UserSession // nil before login
	p                          *Provider
	u                          *user
	conn                       net.Conn
	mailbox                    string
	uidValidity                uint32
}

var _ imapserver.SessionIMAP4rev2 = (*imapSession)(nil)

func (s *imapSession) fault(at Point, match string) error { return s.p.imapFault(at, match, s.conn) }

// Login implements imapserver.Session.
func (s *imapSession) Login(username, password string) error {
	if err := s.fault(IMAPLogin, username); err != nil {
		return err
	}
	u := s.p.users[canonical(username)]
	if u == nil || subtle.ConstantTimeCompare([]byte(u.password), []byte(password)) != 1 {
		return imapserver.ErrAuthFailed
	}
	s.u, s.UserSession = u, imapmemserver.NewUserSession(u.mem)
	return nil
}

// Select implements imapserver.Session.
func (s *imapSession) Select(name string, o *imap.SelectOptions) (*imap.SelectData, error) {
	if err := s.fault(IMAPSelect, name); err != nil {
		return nil, err
	}
	data, err := s.UserSession.Select(name, o)
	if err != nil {
		return nil, err
	}
	s.mailbox, s.uidValidity = name, data.UIDValidity
	return data, nil
}

// Create implements imapserver.Session.
func (s *imapSession) Create(name string, o *imap.CreateOptions) error {
	if err := s.fault(IMAPCreate, name); err != nil {
		return err
	}
	var attrs []imap.MailboxAttr
	if o != nil {
		attrs = o.SpecialUse
	}
	return s.u.create(name, attrs)
}

// Delete implements imapserver.Session.
func (s *imapSession) Delete(name string) error { return s.u.remove(name) }

// Rename implements imapserver.Session.
func (s *imapSession) Rename(from, to string, _ *imap.RenameOptions) error {
	return s.u.rename(from, to)
}

// Subscribe implements imapserver.Session.
func (s *imapSession) Subscribe(name string) error { return s.u.subscribe(name, true) }

// Unsubscribe implements imapserver.Session.
func (s *imapSession) Unsubscribe(name string) error { return s.u.subscribe(name, false) }

// List implements imapserver.Session.
func (s *imapSession) List(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	if err := s.fault(IMAPList, ""); err != nil {
		return err
	}
	return s.u.list(w, ref, patterns, o)
}

// Status implements imapserver.Session.
func (s *imapSession) Status(name string, o *imap.StatusOptions) (*imap.StatusData, error) {
	if err := s.fault(IMAPStatus, name); err != nil {
		return nil, err
	}
	return s.UserSession.Status(name, o)
}

// Append implements imapserver.Session.
func (s *imapSession) Append(name string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, r); err != nil {
		return nil, err
	}
	if err := s.fault(IMAPAppend, name); err != nil {
		return nil, err
	}
	if o.Time.IsZero() {
		o.Time = s.p.now()
	}
	return s.p.append(s.u, name, buf.Bytes(), o)
}

// Fetch implements imapserver.Session.
func (s *imapSession) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	if err := s.fault(IMAPFetch, s.mailbox); err != nil {
		return err
	}
	return s.UserSession.Fetch(w, set, o)
}

// Search implements imapserver.Session.
func (s *imapSession) Search(kind imapserver.NumKind, c *imap.SearchCriteria, o *imap.SearchOptions) (*imap.SearchData, error) {
	if err := s.fault(IMAPSearch, s.mailbox); err != nil {
		return nil, err
	}
	return s.UserSession.Search(kind, c, o)
}

// Store implements imapserver.Session.
func (s *imapSession) Store(w *imapserver.FetchWriter, set imap.NumSet, flags *imap.StoreFlags, o *imap.StoreOptions) error {
	if err := s.fault(IMAPStore, s.mailbox); err != nil {
		return err
	}
	return s.UserSession.Store(w, set, flags, o)
}

// Expunge implements imapserver.Session.
func (s *imapSession) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	if err := s.fault(IMAPExpunge, s.mailbox); err != nil {
		return err
	}
	return s.UserSession.Expunge(w, uids)
}

// Copy implements imapserver.Session.
func (s *imapSession) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	if err := s.fault(IMAPCopy, dest); err != nil {
		return nil, err
	}
	uids, err := s.resolve(set)
	if err != nil {
		return nil, err
	}
	data, err := s.UserSession.Copy(set, dest)
	if err != nil {
		return nil, err
	}
	return data, s.copied(uids, dest, data.UIDValidity)
}

// Move implements imapserver.SessionMove.
func (s *imapSession) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	if err := s.fault(IMAPCopy, dest); err != nil {
		return err
	}
	uids, err := s.resolve(set)
	if err != nil {
		return err
	}
	status, err := s.u.mem.Status(dest, &imap.StatusOptions{UIDValidity: true})
	if err != nil {
		return &imap.Error{
			Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeTryCreate, Text: "No such mailbox",
		}
	}
	if err := s.UserSession.Move(w, set, dest); err != nil {
		return err
	}
	return s.copied(uids, dest, status.UIDValidity)
}

// resolve returns the UIDs that a set names in the selected mailbox now.
func (s *imapSession) resolve(set imap.NumSet) ([]imap.UID, error) {
	c := &imap.SearchCriteria{}
	switch set := set.(type) {
	case imap.SeqSet:
		c.SeqNum = []imap.SeqSet{set}
	case imap.UIDSet:
		c.UID = []imap.UIDSet{set}
	}
	data, err := s.UserSession.Search(imapserver.NumKindUID, c, &imap.SearchOptions{ReturnAll: true})
	if err != nil {
		return nil, err
	}
	return data.AllUIDs(), nil
}

// copied records the contents of copies: the memory server gave them the
// highest UIDs of the destination, in order.
func (s *imapSession) copied(uids []imap.UID, dest string, uidValidity uint32) error {
	status, err := s.u.mem.Status(dest, &imap.StatusOptions{UIDNext: true})
	if err != nil {
		return err
	}
	first := status.UIDNext - imap.UID(len(uids))
	for i, uid := range uids {
		content := s.p.record.get(contentKey{s.u.address, s.uidValidity, uid})
		s.p.record.put(contentKey{s.u.address, uidValidity, first + imap.UID(i)}, content)
	}
	return nil
}
