package mailtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// Stored is a message as the provider holds it.
type Stored struct {
	Address     string
	Mailbox     string
	UIDValidity uint32
	UID         uint32
	Flags       []string // lower case, sorted
	Content     []byte   // exact octets; do not modify
}

// Submission is a message as a client submitted it, before the provider added
// anything.
type Submission struct {
	Username   string
	From       string
	Recipients []string
	Content    []byte // exact octets; do not modify
	UTF8       bool
}

// record is all that a provider ever got.
type record struct {
	mu          sync.Mutex
	contents    map[contentKey][]byte
	everything  [][]byte
	submissions []Submission
}

type contentKey struct {
	address     string
	uidValidity uint32
	uid         imap.UID
}

func (r *record) put(k contentKey, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.contents == nil {
		r.contents = make(map[contentKey][]byte)
	}
	r.contents[k] = content
	r.everything = append(r.everything, content)
}

func (r *record) get(k contentKey) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.contents[k]
}

// user is a person's mailboxes.
type user struct {
	address  string
	password string
	mem      *imapmemserver.User

	mu        sync.Mutex
	mailboxes map[string]*mailbox
}

// mailbox is what the memory server does not know of a mailbox.
type mailbox struct {
	specialUse []imap.MailboxAttr
	subscribed bool
}

// standardMailboxes are made for each user.
var standardMailboxes = []struct {
	name string
	attr imap.MailboxAttr
}{
	{"INBOX", ""},
	{"Drafts", imap.MailboxAttrDrafts},
	{"Sent", imap.MailboxAttrSent},
	{"Trash", imap.MailboxAttrTrash},
	{"Junk", imap.MailboxAttrJunk},
	{"Archive", imap.MailboxAttrArchive},
}

func (p *Provider) addUser(o User) error {
	address := canonical(o.Address)
	if _, domain := splitAddress(address); domain != p.domain {
		return fmt.Errorf("mailtest: %s is not an address of %s", o.Address, p.domain)
	}
	if p.users[address] != nil {
		return fmt.Errorf("mailtest: two users named %s", o.Address)
	}
	u := &user{
		address: address, password: o.Password,
		mem:       imapmemserver.NewUser(address, o.Password),
		mailboxes: make(map[string]*mailbox),
	}
	for _, m := range standardMailboxes {
		var attrs []imap.MailboxAttr
		if m.attr != "" {
			attrs = append(attrs, m.attr)
		}
		if err := u.create(m.name, attrs); err != nil {
			return fmt.Errorf("mailtest: create %s: %w", m.name, err)
		}
		if err := u.subscribe(m.name, true); err != nil {
			return fmt.Errorf("mailtest: subscribe %s: %w", m.name, err)
		}
	}
	p.users[address] = u
	return nil
}

// append stores a message and returns where.
func (p *Provider) append(u *user, mailbox string, content []byte, o *imap.AppendOptions) (*imap.AppendData, error) {
	data, err := u.mem.Append(mailbox, literal{bytes.NewReader(content)}, o)
	if err != nil {
		return nil, err
	}
	p.record.put(contentKey{u.address, data.UIDValidity, data.UID}, content)
	return data, nil
}

// literal makes an imap.LiteralReader of octets in memory.
type literal struct{ *bytes.Reader }

// Size implements imap.LiteralReader.
func (l literal) Size() int64 { return l.Reader.Size() }

// Deliver puts a message into a mailbox without any protocol and without
// adding fields. The provider keeps content.
func (p *Provider) Deliver(address, mailbox string, content []byte, flags ...string) error {
	u := p.users[canonical(address)]
	if u == nil {
		return fmt.Errorf("mailtest: no user %s", address)
	}
	o := &imap.AppendOptions{Time: p.now()}
	for _, f := range flags {
		o.Flags = append(o.Flags, imap.Flag(f))
	}
	if _, err := p.append(u, mailbox, content, o); err != nil {
		return fmt.Errorf("mailtest: deliver to %s: %w", mailbox, err)
	}
	return nil
}

// Messages returns what a mailbox holds now, in the order of the UIDs.
func (p *Provider) Messages(address, mailbox string) ([]Stored, error) {
	u := p.users[canonical(address)]
	if u == nil {
		return nil, fmt.Errorf("mailtest: no user %s", address)
	}
	session := imapmemserver.NewUserSession(u.mem)
	selected, err := session.Select(mailbox, &imap.SelectOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("mailtest: select %s: %w", mailbox, err)
	}
	search := func(c *imap.SearchCriteria) ([]imap.UID, error) {
		data, err := session.Search(imapserver.NumKindUID, c, &imap.SearchOptions{ReturnAll: true})
		if err != nil {
			return nil, err
		}
		return data.AllUIDs(), nil
	}
	uids, err := search(&imap.SearchCriteria{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mailtest: list %s: %w", mailbox, err), session.Close())
	}
	flags := make(map[imap.UID][]string)
	for _, f := range selected.Flags {
		with, err := search(&imap.SearchCriteria{Flag: []imap.Flag{f}})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("mailtest: list %s: %w", mailbox, err), session.Close())
		}
		for _, uid := range with {
			flags[uid] = append(flags[uid], string(f))
		}
	}
	var out []Stored
	for _, uid := range uids {
		slices.Sort(flags[uid])
		out = append(out, Stored{
			Address: u.address, Mailbox: mailbox, UIDValidity: selected.UIDValidity, UID: uint32(uid),
			Flags: flags[uid], Content: p.record.get(contentKey{u.address, selected.UIDValidity, uid}),
		})
	}
	return out, session.Close()
}

// All returns what all mailboxes of all users hold now.
func (p *Provider) All() ([]Stored, error) {
	var out []Stored
	for _, u := range p.users {
		for _, name := range u.names() {
			l, err := p.Messages(u.address, name)
			if err != nil {
				return nil, err
			}
			out = append(out, l...)
		}
	}
	return out, nil
}

// Everything returns the content of every message that the provider ever
// stored, expunged ones included, and of every submission: what a search for a
// secret has to look through.
func (p *Provider) Everything() [][]byte {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	out := slices.Clone(p.record.everything)
	for _, s := range p.record.submissions {
		out = append(out, s.Content)
	}
	return out
}

// Submissions returns what clients submitted and the provider accepted, in
// order.
func (p *Provider) Submissions() []Submission {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	return slices.Clone(p.record.submissions)
}
