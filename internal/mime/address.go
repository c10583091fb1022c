package mime

import "errors"

// Placeholders for what a broken address lacks, as deployed servers show it.
const (
	missingMailbox = "MISSING_MAILBOX"
	missingDomain  = "MISSING_DOMAIN"
	syntaxError    = "SYNTAX_ERROR"
	invalidRoute   = "INVALID_ROUTE"
)

// ParseAddressList reads the value of an address field (RFC 5322 section 3.4,
// obsolete forms included). It never fails: an address that is not one has
// Invalid set, and reading may end early behind it. Groups are framed as
// Address says.
func ParseAddressList(value []byte) []Address {
	p := addressParser{lexer: lexer{s: value}}
	if p.skipCFWS() != more {
		return nil
	}
	p.list()
	return p.addrs
}

type addressParser struct {
	lexer
	addrs []Address
	cur   Address
}

// add appends the current address and begins a new one.
func (p *addressParser) add() {
	p.addrs = append(p.addrs, p.cur)
	p.cur = Address{}
}

// addFixed appends the current address with placeholders for what it lacks.
func (p *addressParser) addFixed() {
	if p.cur.Mailbox == nil {
		p.cur.Mailbox = []byte(missingMailbox)
		p.cur.Invalid = true
	}
	if len(p.cur.Host) == 0 {
		p.cur.Host = []byte(missingDomain)
		p.cur.Invalid = true
	}
	p.add()
}

func (p *addressParser) list() {
	for {
		if p.address() == end || !p.at(',') {
			return
		}
		p.pos++
		switch p.skipCFWS() {
		case bad: // ends with an unclosed comment
			p.addFixed()
			return
		case end:
			return
		}
	}
}

func (p *addressParser) address() status {
	start := p.pos
	if st := p.group(); st != bad {
		return st
	}
	p.pos = start
	return p.mailbox()
}

// group reads display-name ":" [mailbox-list] ";". It returns bad only if the
// text does not begin a group.
func (p *addressParser) group() status {
	name, st := p.phrase(nil)
	if st != more || !p.at(':') {
		return bad
	}
	p.pos++
	st = p.skipCFWS()
	if st != more {
		p.cur.Invalid = true
	}
	p.cur.Mailbox = nonNil(name)
	p.add()
	if st == more && !p.at(';') {
		st = p.groupMembers()
	}
	if st != bad {
		if p.at(';') {
			p.pos++
			st = p.skipCFWS()
		} else {
			st = bad
		}
	}
	if st == bad {
		p.cur.Invalid = true
	}
	p.add()
	if st == end {
		return end
	}
	return more
}

func (p *addressParser) groupMembers() status {
	for {
		p.mailbox() // a broken one does not end the group
		if !p.at(',') {
			return more
		}
		p.pos++
		if p.skipCFWS() != more {
			return bad
		}
	}
}

func (p *addressParser) mailbox() status {
	start := p.pos
	st := p.nameAddr()
	if st == bad {
		p.pos = start
		st = p.addrSpec()
		if c := &p.cur; c.Invalid && c.Name == nil && c.Mailbox != nil && c.Host == nil {
			c.Name, c.Mailbox = c.Mailbox, nil
		}
	}
	if st == bad {
		p.cur.Invalid = true
	}
	p.addFixed()
	return st
}

// nameAddr reads [phrase] "<" addr-spec ">".
func (p *addressParser) nameAddr() status {
	name, st := p.phrase(nil)
	if st != more || !p.at('<') {
		return bad
	}
	if len(name) > 0 {
		p.cur.Name = name
	}
	if p.angleAddr() == bad {
		p.cur.Host = []byte(syntaxError)
		p.cur.Invalid = true
	}
	return p.rest()
}

func (p *addressParser) angleAddr() status {
	p.pos++ // "<"
	if p.skipCFWS() != more {
		return bad
	}
	if p.at('@') {
		if p.route() == more && p.at(':') {
			p.pos++
		} else {
			p.cur.Route = []byte(invalidRoute)
			if p.done() {
				return bad
			}
		}
		if p.skipCFWS() != more {
			return bad
		}
	}
	if !p.at('>') {
		if _, st := p.localPart(); st != more {
			return bad
		}
		if p.at('@') && p.hostPart() != more {
			return bad
		}
	}
	if !p.at('>') {
		return bad
	}
	p.pos++
	return p.skipCFWS()
}

// route reads the obsolete source route "@a,@b" (RFC 5322 section 4.4).
func (p *addressParser) route() status {
	var route []byte
	for p.at('@') {
		if len(route) > 0 {
			route = append(route, ',')
		}
		route = append(route, '@')
		var st status
		if route, st = p.domain(route); st != more {
			return st
		}
		for p.skipCFWS() == more && p.at(',') {
			p.pos++
		}
	}
	if p.done() {
		return end
	}
	p.cur.Route = route
	return more
}

// localPart reads a local part. It returns the text as far as it went, also
// where it is bad.
func (p *addressParser) localPart() (text []byte, st status) {
	if p.at('"') {
		text, st = p.quoted(nil)
	} else {
		text, st = p.localAtom(nil)
	}
	if st != bad {
		p.cur.Mailbox = nonNil(text)
	}
	return text, st
}

func (p *addressParser) hostPart() status {
	host, st := p.domain(nil)
	if st != bad {
		p.cur.Host = nonNil(host)
	}
	return st
}

// addrSpec reads local-part "@" domain. The comment behind it, if any, is the
// display name.
func (p *addressParser) addrSpec() status {
	p.comment = p.comment[:0]
	isQuoted := p.at('"')
	word, st := p.localPart()
	if st != more {
		p.cur.Invalid = true
	}
	hasHost := false
	if st != end && p.at('@') {
		hasHost = true
		if hst := p.hostPart(); hst != more {
			st = hst
		}
	}
	if len(p.comment) > 0 {
		p.cur.Name = append([]byte(nil), p.comment...)
		return st
	}
	if hasHost {
		return st
	}
	return p.lonelyWord(word, isQuoted)
}

// lonelyWord handles what has no "@": a single word is taken for a mailbox
// without domain, more words for a display name without address.
func (p *addressParser) lonelyWord(word []byte, isQuoted bool) status {
	text := append(append([]byte(nil), word...), ' ')
	n := len(text)
	if text, _ = p.phrase(text); len(text) != n {
		p.cur.Mailbox = nil
		p.cur.Name = text
	} else if !isQuoted {
		p.cur.Host = []byte{}
	}
	p.cur.Invalid = true
	return bad
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// ErrAddress reports a value that is not a list of addresses throughout.
var ErrAddress = errors.New("malformed address")

// ParseMailboxes reads the value of an address field as ParseAddressList does,
// but fails with ErrAddress if anything in it is not an address. Groups are
// resolved into their members. An empty value has no mailboxes.
func ParseMailboxes(value []byte) ([]Address, error) {
	p := addressParser{lexer: lexer{s: value}}
	switch p.skipCFWS() {
	case bad:
		return nil, ErrAddress
	case end:
		return nil, nil
	}
	p.list()
	if !p.done() {
		return nil, ErrAddress
	}
	var out []Address
	for _, a := range p.addrs {
		switch {
		case a.Invalid:
			return nil, ErrAddress
		case a.Host == nil: // the beginning or end of a group
		case len(a.Mailbox) == 0:
			return nil, ErrAddress
		default:
			out = append(out, a)
		}
	}
	return displayed(out), nil
}

// Spec returns the addr-spec of a mailbox (RFC 5322 section 3.4.1), the local
// part quoted only if it has to be.
func (a Address) Spec() string {
	dotAtom := len(a.Mailbox) > 0
	for _, c := range a.Mailbox {
		dotAtom = dotAtom && (c == '.' || isAtext(c))
	}
	b := make([]byte, 0, len(a.Mailbox)+len(a.Host)+3)
	if dotAtom {
		b = append(b, a.Mailbox...)
	} else {
		b = append(b, '"')
		for _, c := range a.Mailbox {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
		b = append(b, '"')
	}
	b = append(b, '@')
	return string(append(b, a.Host...))
}
