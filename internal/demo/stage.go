package demo

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/internal/world"
)

// patience bounds the wait for a message to arrive.
const patience = 15 * time.Second

// stage is where the story is played: the world and the score.
type stage struct {
	world *world.World
	dir   string
	out   io.Writer
	began time.Time

	mail           map[string]*letter // what was sent, by a name of the story
	secrets        []string           // what no provider may ever hold
	passed, failed int
}

type step struct {
	title string
	play  func(ctx context.Context, s *stage) error
}

func (s *stage) play(ctx context.Context, steps []step) error {
	for i, st := range steps {
		fmt.Fprintf(s.out, "\n%2d/%d  %s   (%.1f s)\n", i+1, len(steps), st.title, time.Since(s.began).Seconds())
		if err := st.play(ctx, s); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, st.title, err)
		}
	}
	return nil
}

// check scores one statement.
func (s *stage) check(ok bool, format string, args ...any) {
	mark := "ok  "
	if ok {
		s.passed++
	} else {
		s.failed++
		mark = "FAIL"
	}
	fmt.Fprintf(s.out, "   %s %s\n", mark, fmt.Sprintf(format, args...))
}

func (s *stage) summary() {
	fmt.Fprintf(s.out, "\n%d checks, %d passed, %d failed, %.1f s.\n", s.passed+s.failed, s.passed, s.failed, time.Since(s.began).Seconds())
	if s.failed == 0 {
		fmt.Fprint(s.out, "Providers stored ciphertext only, everybody read exactly what was meant for them.\n")
	}
}

// send composes and submits a letter through the sender's gateway, and
// remembers its text as a secret.
func (s *stage) send(ctx context.Context, who, name string, l *letter) error {
	p := s.world.Person(who)
	l.from = p.Address
	l.compose()
	s.mail[name] = l
	s.secrets = append(s.secrets, l.text, l.subject)
	return p.Device().Mail().Send(ctx, p.Address, l.envelope(), l.octets)
}

// arrives waits until a mail program finds the letter.
func (s *stage) arrives(ctx context.Context, m *world.MailProgram, mailbox string, l *letter) (*world.Mail, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		got, err := m.Find(ctx, mailbox, l.id)
		if !errors.Is(err, world.ErrNoMail) {
			return got, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s did not arrive in %s of %s: %w", l.subject, mailbox, m.Username, err)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// stored gives the letter as a provider stores it.
func (s *stage) stored(who, mailbox string, l *letter) (*mailtest.Stored, error) {
	all, err := s.world.Person(who).Stored(mailbox)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if strings.EqualFold(world.Field(m.Content, "Message-ID"), l.id) {
			return &m, nil
		}
	}
	return nil, fmt.Errorf("the provider stores no %s for %s", l.id, who)
}

// delivered shows and checks one sealed letter that has reached a reader.
func (s *stage) delivered(ctx context.Context, who string, l *letter, show bool) error {
	got, err := s.arrives(ctx, s.world.Person(who).Device().Mail(), "INBOX", l)
	if err != nil {
		return err
	}
	at, err := s.stored(who, "INBOX", l)
	if err != nil {
		return err
	}
	if show {
		s.show(at.Content, got.Content)
	}
	s.check(s.sealed(at.Content, l), "the provider of %s stores ciphertext: no text, no subject, no attachment", who)
	s.check(intact(got.Content, l.octets), "%s reads exactly the %d octets that were submitted", who, len(l.octets))
	s.check(got.Has(imapd.KeywordEncrypted) && !got.Has(imapd.KeywordWarning), "and sees it marked as encrypted, without a warning")
	return nil
}

func (s *stage) show(stored, seen []byte) {
	printColumns(s.out,
		excerpt(stored, []string{"From", "To", "Cc", "Subject", "CloudMLS-Conversation", "Content-Type"}, 12),
		excerpt(seen, []string{"From", "To", "Cc", "Subject", "CloudMLS-Status"}, 12))
}

// sealed reports that nothing of the letter can be found in what is stored.
func (s *stage) sealed(stored []byte, l *letter) bool {
	if !bytes.Contains(stored, []byte("multipart/encrypted")) {
		return false
	}
	for _, secret := range [][]byte{[]byte(l.text), []byte(l.subject), []byte("Storyteller"), l.attachment} {
		if holds(stored, secret) {
			return false
		}
	}
	return true
}

// intact reports that a mail program was served trace and status fields and
// then, octet by octet, what the sender submitted.
func intact(seen, submitted []byte) bool {
	prefix, ok := bytes.CutSuffix(seen, submitted)
	if !ok {
		return false
	}
	for line := range bytes.Lines(prefix) {
		name, _, isField := bytes.Cut(line, []byte(":"))
		if line[0] == ' ' || line[0] == '\t' {
			continue
		}
		if !isField || !served[strings.ToLower(string(name))] {
			return false
		}
	}
	return bytes.Contains(prefix, []byte("CloudMLS-Status:"))
}

// served are the fields that may stand before the submitted octets here.
var served = map[string]bool{"return-path": true, "received": true, "delivered-to": true, "cloudmls-status": true}

// holds reports whether b contains the secret as it is or in base64, at any
// alignment and across line breaks.
func holds(b, secret []byte) bool {
	if len(secret) < 6 {
		return false
	}
	if len(secret) > 60 {
		secret = secret[:60]
	}
	if bytes.Contains(b, secret) {
		return true
	}
	joined := bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r"), nil), []byte("\n"), nil)
	for shift := range 3 {
		coded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		coded = strings.TrimRight(coded, "=")
		// The first and last characters also carry bits of the neighbours.
		first := []int{0, 2, 3}[shift]
		if bytes.Contains(joined, []byte(coded[first:len(coded)-1])) {
			return true
		}
	}
	return false
}
