package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloudmls/gateway/groupid"
)

// Limits of asking the provider for what a message answers.
const (
	inquiryTimeout   = 30 * time.Second
	inquiryIDs       = 20 // the closest references
	inquiryMailboxes = 64
	inquiryLines     = 20_000 // of one answer
)

// strangers are the message ids among refs that this device knows nothing of,
// the closest first, as far as they can be asked for.
func (a *account) strangers(refs []string) ([]string, error) {
	var ids []string
	for _, ref := range refs {
		if _, ok := conversationToken(ref); ok || !quotable(ref) || len(ids) >= inquiryIDs {
			continue
		}
		_, known, err := a.threads.get(ref)
		if err != nil {
			return nil, err
		}
		if !known {
			ids = append(ids, ref)
		}
	}
	return ids, nil
}

// quotable reports whether a value may stand in an IMAP quoted string (RFC
// 9051 section 4.3).
func quotable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// answersSealed looks closer at a message before it leaves in clear: whether
// it carries an opened one, and whether one that it names is stored at the
// provider as ciphertext, since the thread index is this device's, and another
// one may have opened it. An error says nothing about the message. A provider
// that lies here is why recipients are pinned.
func (a *account) answersSealed(ctx context.Context, s *submission) (bool, error) {
	if found, err := a.carriesOpened(s); err != nil || found {
		return found, err
	}
	ids, err := a.strangers(s.references())
	if err != nil || len(ids) == 0 {
		return false, err
	}
	conversations, err := a.client.Conversations(ctx, a.self)
	if err != nil || len(conversations) == 0 {
		return false, err // nothing of this account was ever encrypted
	}
	ctx, cancel := context.WithTimeout(ctx, inquiryTimeout)
	defer cancel()
	c, err := a.signIn(ctx)
	if err != nil {
		return false, err
	}
	found, err := c.holds(sealedCriteria(ids, a.selfConversation()))
	if closing := c.close(); closing != nil {
		a.log.Debug("sign out at the provider", "err", closing)
	}
	return found, err
}

// holds searches all mailboxes for a message that fits.
func (c *appender) holds(criteria string) (bool, error) {
	mailboxes, err := c.mailboxes()
	if err != nil {
		return false, err
	}
	for _, m := range mailboxes {
		if found, err := c.search(m, criteria); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// sealedCriteria is the search key (RFC 9051 section 6.4.4) for outer messages
// with one of the ids. Uploads under the conversation with oneself are no
// encrypted mail: a Sent copy of plain mail is sealed as well.
func sealedCriteria(ids []string, self groupid.ID) string {
	var b strings.Builder
	b.WriteString(`OR HEADER CloudMLS-Conversation "" HEADER Content-Type "vnd.cloudmls.control"`)
	b.WriteString(` NOT HEADER CloudMLS-Conversation "` + self.String() + `"`)
	for i, id := range ids {
		b.WriteString(" ")
		if i < len(ids)-1 {
			b.WriteString("OR ")
		}
		b.WriteString(`HEADER Message-ID "` + id + `"`)
	}
	return b.String()
}

// mailboxes lists the names of those that can be searched, in the form of the
// wire: the one with all messages alone if there is such a one (RFC 6154).
func (c *appender) mailboxes() ([]string, error) {
	tag, err := c.send(`LIST "" "*"`)
	if err != nil {
		return nil, err
	}
	var names []string
	all := ""
	ok, err := c.answer(tag, func(line string) {
		attributes, name, ok := parseList(line)
		switch {
		case !ok || strings.Contains(attributes, `\noselect`) || strings.Contains(attributes, `\nonexistent`):
		case strings.Contains(attributes+" ", `\all `):
			all = name
		case len(names) < inquiryMailboxes:
			names = append(names, name)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errors.New("the provider does not list its mailboxes")
	case all != "":
		return []string{all}, nil
	}
	return names, nil
}

// parseList takes a LIST response (RFC 9051 section 7.3.1) apart. Attributes
// are in lower case; a name sent as a literal is not understood.
func parseList(line string) (attributes, name string, ok bool) {
	rest, ok := strings.CutPrefix(line, "* LIST (")
	if !ok {
		return "", "", false
	}
	attributes, rest, ok = strings.Cut(rest, ") ")
	if !ok {
		return "", "", false
	}
	if strings.HasPrefix(rest, `"\`) {
		rest = `""` + strings.TrimPrefix(rest, `"\\"`)
	}
	_, name, ok = strings.Cut(rest, " ") // behind the delimiter
	if !ok || !isArgument(name) {
		return "", "", false
	}
	return strings.ToLower(attributes), name, true
}

// isArgument reports whether a value is one atom or one quoted string.
func isArgument(s string) bool {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	inner, quoted := strings.CutPrefix(s, `"`)
	if !quoted {
		return !strings.ContainsAny(s, "{}() \"")
	}
	inner, quoted = strings.CutSuffix(inner, `"`)
	plain := strings.NewReplacer(`\\`, "", `\"`, "").Replace(inner)
	return quoted && quotable(strings.Map(func(r rune) rune {
		if r > '~' {
			return 'x' // UTF-8 where the server allows it
		}
		return r
	}, plain))
}

// search reports whether a mailbox holds a message that fits. A mailbox that
// cannot be opened is passed over, as it may have gone meanwhile; INBOX is
// always there.
func (c *appender) search(mailbox, criteria string) (bool, error) {
	tag, err := c.send("EXAMINE " + mailbox)
	if err != nil {
		return false, err
	}
	ok, err := c.answer(tag, func(string) {})
	if err == nil && !ok && strings.EqualFold(strings.Trim(mailbox, `"`), "INBOX") {
		err = errors.New("the provider does not open INBOX")
	}
	if err != nil || !ok {
		return false, err
	}
	if tag, err = c.send("SEARCH " + criteria); err != nil {
		return false, err
	}
	found := false
	ok, err = c.answer(tag, func(line string) {
		if rest, is := strings.CutPrefix(line, "* SEARCH"); is {
			for _, f := range strings.Fields(rest) {
				if _, err := strconv.ParseUint(f, 10, 32); err == nil {
					found = true
				}
			}
		}
	})
	if err == nil && !ok {
		err = errors.New("the provider refused to search")
	}
	return found, err
}

// answer reads the responses to a command up to the tagged one and reports
// whether that is OK.
func (c *appender) answer(tag string, untagged func(line string)) (ok bool, err error) {
	for range inquiryLines {
		l, err := c.line()
		if err != nil {
			return false, fmt.Errorf("read from the provider: %w", err)
		}
		if rest, is := strings.CutPrefix(l, tag+" "); is {
			return strings.HasPrefix(strings.ToUpper(rest), "OK"), nil
		}
		untagged(l)
	}
	return false, errors.New("the provider says too much")
}
