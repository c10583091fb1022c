// Package corpus is mail as people, programs and lists send it, and as only few
// do: for tests that compare what was submitted with what is read. The
// messages are legal for SMTP (CRLF, no NUL, lines of at most 998 octets, the
// last line ended) and were written for this project. All are from
// alice@a.test; the one who reads them is erin@b.test.
//
// The small ones are files, so that a mail program can open them: a message
// NAME is testdata/NAME.eml, and testdata/index.txt says what is special about
// it and which canaries it holds. The big ones are built (built.go).
package corpus

import (
	"bufio"
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

// Sender and Reader are the two people of all messages.
const (
	Sender = "alice@a.test"
	Reader = "erin@b.test"
)

// Message is one message of the corpus.
type Message struct {
	Name   string // unique; of letters, digits and "-"
	Note   string // what is special about it
	Octets []byte // what is submitted
	// Canaries are words that occur in this message only, in everything that
	// must not be readable on the way: display names, subject, texts, file
	// names, file contents. Some stand in base64 or quoted-printable.
	Canaries []string
}

//go:embed testdata
var testdata embed.FS

// All returns a fresh copy of the whole corpus, in a fixed order.
func All() ([]Message, error) {
	files, err := stored()
	if err != nil {
		return nil, err
	}
	return append(files, built()...), nil
}

// Key returns a file of testdata/keys: the certificate of the S/MIME messages
// or the keyring of the OpenPGP ones. The private keys were thrown away.
func Key(name string) ([]byte, error) { return testdata.ReadFile("testdata/keys/" + name) }

// stored reads the index and the files that it names.
func stored() ([]Message, error) {
	index, err := testdata.ReadFile("testdata/index.txt")
	if err != nil {
		return nil, err
	}
	var all []Message
	for lines := bufio.NewScanner(strings.NewReader(string(index))); lines.Scan(); {
		line := lines.Text()
		if canary, ok := strings.CutPrefix(line, "\t"); ok {
			if len(all) == 0 {
				return nil, fmt.Errorf("corpus: the index begins with %q", line)
			}
			last := &all[len(all)-1]
			last.Canaries = append(last.Canaries, canary)
			continue
		}
		name, note, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, fmt.Errorf("corpus: index line %q has no colon", line)
		}
		octets, err := testdata.ReadFile("testdata/" + name + ".eml")
		if err != nil {
			return nil, err
		}
		all = append(all, Message{Name: name, Note: note, Octets: octets})
	}
	return all, nil
}

// files lists the messages that lie in testdata.
func files() ([]string, error) { return fs.Glob(testdata, "testdata/*.eml") }
