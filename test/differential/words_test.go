package differential

import (
	"fmt"
	"slices"
	"strings"
)

// next returns one command.
func (s *script) next() *command {
	switch s.r.IntN(34) {
	case 0, 1, 2:
		return s.selectCommand()
	case 3, 4, 5, 6, 7, 8, 9:
		return s.fetch()
	case 10, 11, 12:
		return s.store()
	case 13, 14, 15:
		return s.search()
	case 16:
		return s.sort()
	case 17:
		return s.make(s.uid("THREAD"), s.oddCase(s.choose("REFERENCES", "REFS", "ORDEREDSUBJECT", "NONE")), s.choose("UTF-8", "US-ASCII", "utf-8"), s.key(1))
	case 18:
		return s.make(s.uid("COPY"), s.set(), s.box())
	case 19:
		return s.make(s.uid("MOVE"), s.set(), s.box())
	case 20:
		if s.chance(2) {
			return s.make("EXPUNGE")
		}
		return s.make("UID EXPUNGE", s.set())
	case 21, 22:
		return s.listCommand()
	case 23:
		return s.make("STATUS", s.box(), s.list("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ", "SIZE"))
	case 24:
		return s.quota()
	case 25:
		return s.metadata()
	case 26:
		return s.mailboxCommand()
	case 27:
		return s.enable()
	case 28:
		return s.append()
	case 29:
		return s.invalid()
	case 30:
		return s.hidden()
	case 31:
		return s.make(s.choose("NOOP", "CHECK", "NAMESPACE", "CAPABILITY", "NOOP"))
	case 32:
		if s.chance(3) {
			return s.make("ID", s.choose("NIL", `("name" "x" "version" "1")`, `("name" `+s.literal("someone")+`)`, `()`))
		}
		return s.make(s.choose("CLOSE", "UNSELECT"))
	}
	return s.make(s.uid("FETCH"), "1:*", "(FLAGS)")
}

// quiet returns one command that changes nothing.
func (s *script) quiet() *command {
	switch s.r.IntN(10) {
	case 0:
		return s.make("STATUS", s.astring(s.choose(knownBoxes...)), "(MESSAGES UIDNEXT)")
	case 1:
		return s.make("LIST", `""`, s.choose("*", "%"))
	case 2:
		return s.make(s.uid("SEARCH"), "OR", s.choose("SEEN", "FLAGGED"), "SUBJECT", s.astring("number"))
	case 3:
		return s.make(s.uid("THREAD"), "REFERENCES UTF-8 ALL")
	case 4:
		return s.make(s.uid("SORT"), "(REVERSE SUBJECT DATE) UTF-8 ALL")
	case 5:
		return s.make("GETQUOTAROOT", s.astring("INBOX"))
	}
	items := s.list("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[]", "BODY.PEEK[HEADER]",
		"BODY.PEEK[1]<3.100>", "BODY.PEEK[HEADER.FIELDS (Date Subject)]")
	set := fmt.Sprint(1 + s.r.IntN(6))
	if s.chance(2) {
		set += ":*"
	}
	return s.make(s.uid("FETCH"), set, items)
}

func (s *script) selectCommand() *command {
	name := s.choose(knownBoxes...)
	if s.chance(6) {
		name = s.boxName()
	}
	s.selected = name
	args := []string{s.astring(name)}
	switch s.r.IntN(6) {
	case 0:
		args = append(args, s.oddCase("(CONDSTORE)"))
	case 1:
		args = append(args, s.qresync(name))
	}
	return s.make(s.choose("SELECT", "SELECT", "SELECT", "EXAMINE"), args...)
}

// qresync makes the parameter of RFC 7162, with the right UIDVALIDITY most
// times.
func (s *script) qresync(name string) string {
	validity := "%" + name + "%" // see expand
	if s.chance(4) || !slices.Contains(knownBoxes, name) {
		validity = "1"
	}
	text := "(QRESYNC (" + validity + " " + s.modseq()
	if s.chance(2) {
		text += " " + s.choose("1:20", "1:*", "2,4,6:9", "1:5")
		if s.chance(2) {
			text += " (1,3,5 1,4,7)"
		}
	}
	return text + "))"
}

var sections = []string{"", "HEADER", "TEXT", "1", "2", "1.MIME", "2.1", "3.HEADER", "1.TEXT",
	"HEADER.FIELDS (From Subject)", "HEADER.FIELDS.NOT (Received)", `HEADER.FIELDS ("Date" message-id)`, "2.HEADER.FIELDS (To)", "9", "MIME"}

func (s *script) item() string {
	if s.chance(3) {
		sec := s.choose(sections...)
		if s.chance(8) {
			sec = "HEADER.FIELDS (" + s.literal("Subject") + " X-None)"
		}
		item := s.choose("BODY.PEEK[", "BODY.PEEK[", "BODY[") + sec + "]"
		if s.chance(4) {
			item += fmt.Sprintf("<%d.%d>", s.r.IntN(400), 1+s.r.IntN(3000))
		}
		return item
	}
	return s.choose("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "MODSEQ", "SAVEDATE",
		"RFC822.HEADER", "RFC822.TEXT", "RFC822", "BINARY.PEEK[1]", "BINARY.SIZE[1]", "PREVIEW", "PREVIEW (LAZY)", "SNIPPET (FUZZY)", "X-GM-MSGID")
}

func (s *script) fetch() *command {
	items := make([]string, 0, 4)
	for range 1 + s.r.IntN(4) {
		items = append(items, s.oddCase(s.item()))
	}
	text := "(" + strings.Join(items, " ") + ")"
	switch s.r.IntN(8) {
	case 0:
		text = s.oddCase(s.choose("ALL", "FAST", "FULL"))
	case 1, 2:
		text = items[0]
	}
	name := s.uid("FETCH")
	if s.chance(5) {
		mod := "CHANGEDSINCE " + s.modseq()
		if s.chance(2) {
			mod += " VANISHED"
		}
		text += " (" + s.oddCase(mod) + ")"
	}
	return s.make(name, s.set(), text)
}

func (s *script) flags() string {
	if s.chance(8) {
		return s.choose(`\Seen`, `(\Seen`, `(\NoSuch)`, `()`, `\Seen $Forwarded`, `(a"b)`)
	}
	return s.list(`\Seen`, `\Flagged`, `\Deleted`, `\Answered`, `\Draft`, "$Forwarded", "kw1", "NonJunk")
}

func (s *script) store() *command {
	args := []string{s.set()}
	if s.chance(4) {
		args = append(args, s.oddCase("(UNCHANGEDSINCE "+s.modseq()+")"))
	}
	args = append(args, s.oddCase(s.choose("FLAGS", "+FLAGS", "-FLAGS", "+FLAGS.SILENT", "-FLAGS.SILENT", "FLAGS.SILENT")), s.flags())
	return s.make(s.uid("STORE"), args...)
}

// key makes a SEARCH key.
func (s *script) key(depth int) string {
	switch k := s.r.IntN(16); {
	case k == 0 && depth > 0:
		return "OR " + s.key(depth-1) + " " + s.key(depth-1)
	case k == 1 && depth > 0:
		return "NOT " + s.key(depth-1)
	case k == 2 && depth > 0:
		return "(" + s.key(depth-1) + " " + s.key(depth-1) + ")"
	case k == 3:
		return s.oddCase(s.choose("FROM", "TO", "CC", "BCC", "SUBJECT", "BODY", "TEXT")) + " " + s.astring(s.choose("number", "a", "alice", "no such", "3", "Re:"))
	case k == 4:
		return "HEADER " + s.choose("Message-ID", "Subject", "X-None", "Content-Type") + " " + s.astring(s.choose("", "<m3@example.org>", "text", "m1"))
	case k == 5:
		return s.choose("SINCE", "BEFORE", "ON", "SENTSINCE", "SENTBEFORE", "SENTON", "SAVEDSINCE") + " " + s.choose("4-Mar-2026", "1-Jan-2020", "10-Mar-2026", `"5-Mar-2026"`, "x")
	case k == 6:
		return s.choose("LARGER ", "SMALLER ") + s.choose("100", "500", "20000", "0")
	case k == 7:
		return "UID " + s.set()
	case k == 8 && !s.byUID:
		return s.set()
	case k == 9:
		return "MODSEQ " + s.modseq()
	case k == 10:
		return s.choose("KEYWORD", "UNKEYWORD") + " " + s.choose("kw1", "$Forwarded", "none")
	case k == 11:
		return s.choose("OLDER", "YOUNGER") + " " + s.choose("1", "1000000000")
	case k == 12:
		return "$"
	}
	return s.oddCase(s.choose("ALL", "SEEN", "UNSEEN", "FLAGGED", "DELETED", "UNDELETED", "ANSWERED", "DRAFT", "NEW", "OLD", "RECENT"))
}

func (s *script) search() *command {
	var args []string
	if s.chance(3) {
		args = append(args, s.oddCase("RETURN"), s.list("MIN", "MAX", "COUNT", "ALL", "SAVE"))
	} else if s.chance(10) {
		args = append(args, "RETURN ()")
	}
	if s.chance(5) {
		args = append(args, "CHARSET", s.choose("UTF-8", "us-ascii", "X-UNKNOWN"))
	}
	for range 1 + s.r.IntN(3) {
		args = append(args, s.key(2))
	}
	if s.chance(10) {
		args = []string{"CHARSET UTF-8 UNDELETED SUBJECT", s.literal("gr\xc3\xbc\xc3\x9f")}
	}
	return s.make(s.uid("SEARCH"), args...)
}

func (s *script) sort() *command {
	var args []string
	if s.chance(3) {
		args = append(args, "RETURN", s.list("MIN", "MAX", "COUNT", "ALL"))
	}
	var keys []string
	for _, k := range s.some("ARRIVAL", "DATE", "SUBJECT", "SIZE", "FROM", "TO", "CC", "DISPLAYFROM", "DISPLAYTO", "BOGUS") {
		if s.chance(3) {
			k = "REVERSE " + k
		}
		keys = append(keys, s.oddCase(k))
	}
	args = append(args, "("+strings.Join(keys, " ")+")", s.choose("UTF-8", "US-ASCII"), s.key(1))
	return s.make(s.uid("SORT"), args...)
}

func (s *script) listCommand() *command {
	pattern := s.choose("*", "%", "Work/%", "*e*", "INBOX", "Work", "Entw&APw-rfe", "no*such", "")
	if !strings.ContainsAny(pattern, "*%") {
		pattern = s.astring(pattern)
	} else if s.chance(2) {
		pattern = `"` + pattern + `"`
	}
	ref := s.choose(`""`, `""`, `""`, "Work/", `"Work"`)
	switch s.r.IntN(5) {
	case 0:
		return s.make("LSUB", ref, pattern)
	case 1:
		return s.make("LIST", ref, pattern)
	case 2:
		return s.make("LIST", ref, "("+pattern+` "Sent")`, s.oddCase("RETURN"), s.list("SUBSCRIBED", "CHILDREN", "SPECIAL-USE"))
	case 3:
		return s.make("LIST", s.oddCase(s.list("SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE")), ref, pattern)
	}
	return s.make("LIST", ref, pattern, "RETURN", "("+s.choose("CHILDREN ", "")+"STATUS "+s.list("MESSAGES", "UNSEEN", "UIDVALIDITY", "HIGHESTMODSEQ", "SIZE")+")")
}

func (s *script) quota() *command {
	return s.make(s.choose("GETQUOTAROOT", "GETQUOTAROOT"), s.box())
}

func (s *script) metadata() *command {
	entry := s.choose("/private/comment", "/shared/comment", "/private/vendor/x", "/bogus", "private")
	box := s.choose(`""`, "INBOX", s.box())
	if s.chance(2) {
		return s.make("SETMETADATA", box, "("+entry+" "+s.choose("NIL", `"a value"`, s.syncLiteral("a literal"), "~"+s.syncLiteral("eight\x80bits"))+")")
	}
	opt := s.choose("", "(MAXSIZE 3) ", "(DEPTH 1) ", "(DEPTH infinity) ")
	return s.make("GETMETADATA", opt+box, s.choose(entry, "("+entry+" /private/comment)"))
}

func (s *script) mailboxCommand() *command {
	name := s.choose("new", "new/sub", "&ZeVnLIqe-", "renamed", "Work", "Empty", "INBOX", "&bad", "x y")
	switch s.r.IntN(6) {
	case 0, 1:
		return s.make("CREATE", s.astring(name))
	case 2:
		return s.make("DELETE", s.astring(s.choose("new", "new/sub", "renamed", "&ZeVnLIqe-", "Nowhere")))
	case 3:
		return s.make("RENAME", s.astring(s.choose("new", "Nowhere", "&ZeVnLIqe-")), s.astring("renamed"))
	case 4:
		return s.make("SUBSCRIBE", s.astring(name))
	}
	return s.make("UNSUBSCRIBE", s.astring(name))
}

func (s *script) enable() *command {
	return s.make("ENABLE", s.choose("CONDSTORE", "QRESYNC", "condstore qresync", "UTF8=ACCEPT", "X-NONE", "QRESYNC UTF8=ACCEPT", ""))
}

// append uploads plain mail, or fails before anything is stored.
func (s *script) append() *command {
	msg := message(100+s.r.IntN(20), s.r.IntN(4))
	name := s.choose("Nowhere", "new/none", "&bad")
	if s.uploads {
		name = s.choose(knownBoxes...)
	}
	args := []string{s.astring(name)}
	if s.chance(2) {
		args = append(args, s.list(`\Seen`, `\Flagged`, `\Deleted`, `\Draft`, "$Forwarded", "kw1"))
	}
	args = append(args, `"`+s.choose("04-Mar-2026 05:06:07 +0000", " 1-Apr-2025 23:59:59 -0830", "31-Feb-2026 00:00:00 +0000")+`"`)
	lit := s.literal(msg)
	if s.chance(6) {
		lit = "~" + lit // literal8: BINARY
	}
	return s.make("APPEND", append(args, lit)...)
}

// invalid makes what a server answers with BAD, or does not know.
func (s *script) invalid() *command {
	return s.make(s.choose("FETCH", "FETCH 1", "FETCH 1 (", "UID", "UID NOOP", "STORE 1", "SEARCH", "SELECT", "XUNKNOWN a b", "XOTHER",
		"LIST", "STATUS INBOX", "STATUS INBOX ()", "COPY 1", "ENABLE", "SORT () UTF-8 ALL", "FETCH 1 BODY[", "FETCH 1 BODY[]<5>", "NOOP x",
		"UID XFOO 1 2", "SELECT INBOX (BOGUS)", "THREAD BOGUS UTF-8 ALL", "UID FETCH 1 FLAGS (VANISHED)", "RENAME a", `SELECT "unterminated`, "GETACL INBOX", "LANGUAGE de"))
}

// hidden makes a command of an extension that the gateway hides.
func (s *script) hidden() *command {
	switch s.r.IntN(8) {
	case 0:
		return s.refusedCommand("COMPRESS", "DEFLATE")
	case 1:
		return s.refusedCommand("UNAUTHENTICATE")
	case 2:
		return s.refusedCommand("NOTIFY", "SET STATUS (selected (MessageNew MessageExpunge))")
	case 3:
		return s.refusedCommand("XSTORE", s.literal("a command that nobody knows, with a literal"))
	case 4:
		return s.refusedCommand("STARTTLS")
	case 5:
		return s.refusedCommand("LOGIN", "a", "b")
	case 6:
		return s.refusedCommand("URLFETCH", `"imap://localhost/INBOX/;UID=1"`)
	}
	return s.refusedCommand("REPLACE", "1", s.astring("INBOX"), s.literal("Subject: x\r\n\r\n"))
}

// otherCommands is what another client of the same user does.
func (s *script) otherCommands() []string {
	var out []string
	for range 1 + s.r.IntN(3) {
		out = append(out, s.otherCommand())
	}
	return out
}

func (s *script) otherCommand() string {
	switch s.r.IntN(5) {
	case 0, 1:
		return appendCommand(s.choose("INBOX", "Work", "Empty"), message(200+s.r.IntN(20), s.r.IntN(4)))
	case 2:
		return "STORE " + fmt.Sprint(1+s.r.IntN(5)) + s.choose(" +FLAGS ", " -FLAGS ") + s.choose(`(\Seen)`, `(\Flagged kw2)`)
	case 3:
		return "UID STORE " + fmt.Sprint(1+s.r.IntN(12)) + ` +FLAGS.SILENT (\Deleted)`
	}
	return "EXPUNGE"
}

// idleSteps have another client change the selected mailbox during IDLE.
func (s *script) idleSteps() []*step {
	if s.chance(3) {
		s.selected = "INBOX"
		return []*step{
			{burst: []*command{s.make("SELECT", s.astring("INBOX"))}, cuts: s.segments()},
			{idle: true, cuts: s.segments(), wait: "EXISTS", other: []string{appendCommand("INBOX", message(300+s.r.IntN(9), 0))}},
		}
	}
	return []*step{{idle: true, cuts: s.segments(), other: s.otherCommands()}}
}

func appendCommand(box, msg string) string {
	return fmt.Sprintf("APPEND %s \"05-Mar-2026 01:02:03 +0000\" {%d+}\r\n%s", box, len(msg), msg)
}
