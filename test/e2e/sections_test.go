package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// compare loads every message, as Erin's gateway serves it, into a mailbox of
// Dovecot and asks both for everything that its structure names.
func (j *journey) compare(t *testing.T, plain *stack.IMAP) {
	t.Helper()
	parts := 0
	for _, m := range j.mails {
		whole := j.whole[m.Name]
		if whole == nil {
			continue // reported where it was lost
		}
		reference := plain.Append("Corpus", "", whole)
		general := []string{"RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "RFC822.HEADER",
			"BODY.PEEK[HEADER.FIELDS (FROM TO CC SUBJECT DATE MESSAGE-ID REFERENCES LIST-ID X-EMPTY)]", "BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED SUBJECT)]"}
		want := fetchItems(t, plain, reference, general...)
		same(t, m.Name, fetchItems(t, j.served, j.uid[m.Name], general...), want)

		sections := sectionsOf(want["BODYSTRUCTURE"], "")
		parts += len(sections)
		for chunk := range slices.Chunk(sections, 40) {
			same(t, m.Name, fetchItems(t, j.served, j.uid[m.Name], chunk...), fetchItems(t, plain, reference, chunk...))
		}
		for _, section := range sections {
			if !strings.HasPrefix(section, "BODY.PEEK[") {
				continue
			}
			window := fmt.Sprintf("%s<%d.%d>", section, len(section)*7, 333)
			if got, want := j.served.Fetch(j.uid[m.Name], window).String(), plain.Fetch(reference, window).String(); got != want {
				t.Errorf("%s: %s differs\n gateway %.300s\n Dovecot %.300s", m.Name, window, got, want)
			}
		}
	}
	if parts < 2*len(j.mails) {
		t.Errorf("only %d sections were compared", parts)
	}
	t.Logf("%d sections of %d messages compared", parts, len(j.mails))
}

// same compares two answers, item by item.
func same(t *testing.T, name string, got, want map[string]stack.Value) {
	t.Helper()
	for item, w := range want {
		if item == "UID" || item == "FLAGS" {
			continue
		}
		g, ok := got[item]
		if !ok {
			t.Errorf("%s: no %s in the answer", name, item)
			continue
		}
		if before, _, fields := strings.Cut(item, ".FIELDS"); fields && !strings.HasSuffix(want[before+"]"].Text(), "\r\n\r\n") {
			// The header has no end: RFC 9051 lets a server give one to the
			// fields all the same, and Dovecot does so now and then.
			if g.Text() == w.Text()+"\r\n" || g.Text()+"\r\n" == w.Text() {
				continue
			}
		}
		if g.String() != w.String() {
			t.Errorf("%s: %s differs\n gateway %.900s\n Dovecot %.900s", name, item, g, w)
		}
	}
}

// sectionsOf gives the items for all that a body structure names: part by
// part, down to the messages inside. prefix is empty or ends with a dot.
func sectionsOf(body stack.Value, prefix string) []string {
	if !isMultipart(body) {
		return sectionsOfPart(body, prefix+"1")
	}
	var items []string
	for i, part := range body.List {
		if len(part.List) == 0 {
			break // the subtype: the parts are over
		}
		n := fmt.Sprintf("%s%d", prefix, i+1)
		if isMultipart(part) {
			items = append(items, "BODY.PEEK["+n+"]", "BODY.PEEK["+n+".MIME]")
			items = append(items, sectionsOf(part, n+".")...)
		} else {
			items = append(items, sectionsOfPart(part, n)...)
		}
	}
	return items
}

func sectionsOfPart(part stack.Value, n string) []string {
	items := []string{"BODY.PEEK[" + n + "]", "BODY.PEEK[" + n + ".MIME]"}
	if strings.EqualFold(part.List[0].Text()+"/"+part.List[1].Text(), "message/rfc822") {
		items = append(items, "BODY.PEEK["+n+".HEADER]", "BODY.PEEK["+n+".TEXT]", "BODY.PEEK["+n+".HEADER.FIELDS (SUBJECT FROM)]")
		items = append(items, sectionsOf(part.List[8], n+".")...)
	}
	return items
}

func isMultipart(body stack.Value) bool { return len(body.List) > 0 && len(body.List[0].List) > 0 }
