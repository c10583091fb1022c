package imapd_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/cloudmls/gateway/imapd"
)

// TestTypedClient: a client that parses every answer strictly understands what
// the overlay says.
func TestTypedClient(t *testing.T) {
	w := newWorld(t, nil)
	messages := corpus()
	names := slices.Sorted(maps.Keys(messages))
	for _, name := range names {
		w.deliver("INBOX", seal(messages[name], sealOptions{bulk: len(name)%2 == 0}))
	}
	c, err := imapclient.DialInsecure(w.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(userName, clientPass).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	text := &imap.FetchItemBodySection{Peek: true, Specifier: imap.PartSpecifierText}
	fields := &imap.FetchItemBodySection{Peek: true, Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Subject", "To"}}
	got, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
		Envelope: true, Flags: true, InternalDate: true, RFC822Size: true, UID: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection:   []*imap.FetchItemBodySection{whole, text, fields},
	}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(names) {
		t.Fatalf("%d messages, want %d", len(got), len(names))
	}
	for i, m := range got {
		name := names[i]
		want := append([]byte(statusField), messages[name]...)
		if b := m.FindBodySection(whole); !bytes.Equal(b, want) || m.RFC822Size != int64(len(want)) {
			t.Errorf("%s: %d octets, size %d, want %d", name, len(b), m.RFC822Size, len(want))
		}
		if m.Envelope == nil || !strings.Contains(string(want), m.Envelope.MessageID) {
			t.Errorf("%s: envelope %+v", name, m.Envelope)
		}
		if !slices.Contains(m.Flags, imapd.KeywordVerified) {
			t.Errorf("%s: flags %v", name, m.Flags)
		}
	}
	nested := got[slices.Index(names, "nested")]
	var paths []string
	nested.BodyStructure.Walk(func(path []int, part imap.BodyStructure) bool {
		paths = append(paths, part.MediaType())
		return true
	})
	if s := strings.Join(paths, " "); s != "multipart/mixed multipart/alternative text/plain text/html message/rfc822 multipart/mixed text/plain image/png" &&
		s != "multipart/mixed multipart/alternative text/plain text/html message/rfc822" {
		t.Errorf("structure %s", s)
	}

	draft := []byte("Subject: draft\r\n\r\ntext of a draft\r\n")
	a := c.Append("Drafts", int64(len(draft)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}})
	if _, err := a.Write(draft); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := a.Wait(); err != nil || data.UID != 1 {
		t.Fatalf("append: %+v, %v", data, err)
	}
	if s := stored(w, "Drafts"); strings.Contains(s, "text of a draft") {
		t.Errorf("stored in clear: %q", s)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
}
