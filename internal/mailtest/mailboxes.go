package mailtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

const delimiter = '/'

func (u *user) create(name string, specialUse []imap.MailboxAttr) error {
	name = strings.TrimRight(name, string(delimiter))
	if err := u.mem.Create(name, nil); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mailboxes[name] = &mailbox{specialUse: specialUse}
	return nil
}

func (u *user) remove(name string) error {
	if err := u.mem.Delete(name); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.mailboxes, name)
	return nil
}

func (u *user) rename(from, to string) error {
	to = strings.TrimRight(to, string(delimiter))
	if err := u.mem.Rename(from, to, nil); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mailboxes[to] = u.mailboxes[from]
	delete(u.mailboxes, from)
	return nil
}

func (u *user) subscribe(name string, on bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := u.mailboxes[name]
	if m == nil {
		return &imap.Error{
			Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeNonExistent, Text: "No such mailbox",
		}
	}
	m.subscribed = on
	return nil
}

func (u *user) names() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.mailboxes))
}

// list answers LIST and LSUB, with special-use attributes (RFC 6154) and
// children (RFC 3348), which the memory server does not keep.
func (u *user) list(w *imapserver.ListWriter, ref string, patterns []string, o *imap.ListOptions) error {
	if len(patterns) == 0 || len(patterns) == 1 && patterns[0] == "" {
		return w.WriteList(&imap.ListData{
			Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimiter,
		})
	}
	for _, data := range u.matching(ref, patterns, o) {
		if o.ReturnStatus != nil {
			status, err := u.mem.Status(data.Mailbox, o.ReturnStatus)
			if err != nil {
				return err
			}
			data.Status = status
		}
		if err := w.WriteList(&data); err != nil {
			return err
		}
	}
	return nil
}

func (u *user) matching(ref string, patterns []string, o *imap.ListOptions) []imap.ListData {
	u.mu.Lock()
	defer u.mu.Unlock()
	names := slices.Sorted(maps.Keys(u.mailboxes))
	var out []imap.ListData
	for _, name := range names {
		m := u.mailboxes[name]
		match := slices.ContainsFunc(patterns, func(pattern string) bool {
			return imapserver.MatchList(name, delimiter, ref, pattern)
		})
		if !match || o.SelectSubscribed && !m.subscribed || o.SelectSpecialUse && len(m.specialUse) == 0 {
			continue
		}
		data := imap.ListData{Mailbox: name, Delim: delimiter}
		children := slices.ContainsFunc(names, func(other string) bool {
			return strings.HasPrefix(other, name+string(delimiter))
		})
		if children {
			data.Attrs = append(data.Attrs, imap.MailboxAttrHasChildren)
		} else {
			data.Attrs = append(data.Attrs, imap.MailboxAttrHasNoChildren)
		}
		if m.subscribed && (o.ReturnSubscribed || o.SelectSubscribed) {
			data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
		}
		data.Attrs = append(data.Attrs, m.specialUse...)
		out = append(out, data)
	}
	return out
}
