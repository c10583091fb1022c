package demo

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/world"
)

// cannotOpen puts a ciphertext into somebody's mailbox, as a helpful third
// person or a curious provider could, and checks that they are shown an
// explanation and nothing of the letter.
func (s *stage) cannotOpen(ctx context.Context, who string, ciphertext []byte, l *letter, what string) error {
	p := s.world.Person(who)
	if err := p.Provider().Deliver(p.Address, "Archive", ciphertext); err != nil {
		return err
	}
	got, err := s.arrives(ctx, p.Device().Mail(), "Archive", l)
	if err != nil {
		return err
	}
	s.check(!holds(got.Content, []byte(l.text)) && !got.Has(imapd.KeywordVerified), "%s", what)
	return nil
}

func alteration(ctx context.Context, s *stage) error {
	l := s.mail["photo"]
	at, err := s.stored("Alice", "INBOX", l)
	if err != nil {
		return err
	}
	p := s.world.Person("Alice")
	// One character inside the base64 of the last part: the attachment.
	altered := bytes.Clone(at.Content)
	i := len(altered) * 9 / 10
	for altered[i] < 'A' || altered[i] > 'Y' {
		i++
	}
	altered[i]++
	id := []byte(world.Field(altered, "Message-ID"))
	changed := append([]byte("<altered-"), id[1:]...)
	altered = bytes.Replace(altered, id, changed, 1)
	if err := p.Provider().Deliver(p.Address, "Archive", altered); err != nil {
		return err
	}
	got, err := s.arrives(ctx, p.Device().Mail(), "Archive", &letter{id: string(changed), subject: "the altered message"})
	if err != nil {
		return err
	}
	s.show(altered, got.Content)
	s.check(!got.Has(imapd.KeywordVerified) && !bytes.Contains(got.Content, []byte(l.text)), "one changed character: an explanation instead of the message, nothing of it is shown")
	return nil
}

func secondDevice(ctx context.Context, s *stage) error {
	p := s.world.Person("Alice")
	d, err := p.AddDevice(ctx)
	if err != nil {
		return err
	}
	total := 0
	for _, mailbox := range []string{"INBOX", "Drafts", "Sent"} {
		first, err := p.Device().Mail().List(ctx, mailbox)
		if err != nil {
			return err
		}
		second, err := d.Mail().List(ctx, mailbox)
		if err != nil {
			return err
		}
		same := len(first) == len(second)
		for i := 0; same && i < len(first); i++ {
			// The status field carries a token of the installation.
			a := bytes.ReplaceAll(first[i].Content, []byte(p.Device().StatusToken()), nil)
			b := bytes.ReplaceAll(second[i].Content, []byte(d.StatusToken()), nil)
			same = bytes.Equal(a, b) && first[i].UID == second[i].UID && first[i].Has(imapd.KeywordVerified) == second[i].Has(imapd.KeywordVerified)
		}
		total += len(second)
		s.check(same, "%s: %d messages, all read as on the first device, same UIDs", mailbox, len(second))
	}
	s.check(total >= 5, "%d messages in all, the oldest from before the device existed", total)

	l := &letter{to: []string{bob}, subject: "From the train", text: "Written on the new laptop.", answers: s.mail["dinner"]}
	l.from = p.Address
	l.compose()
	s.secrets = append(s.secrets, l.text, l.subject)
	if err := d.Mail().Send(ctx, p.Address, l.envelope(), l.octets); err != nil {
		return err
	}
	return s.delivered(ctx, "Bob", l, true)
}

func canaries(ctx context.Context, s *stage) error {
	found := 0
	for _, stored := range s.world.Everything() {
		for _, secret := range s.secrets {
			if holds(stored, []byte(secret)) {
				found++
				fmt.Fprintf(s.out, "        found %q\n", secret)
			}
		}
	}
	s.check(found == 0, "no text and no subject of %d in anything the providers were ever handed", len(s.secrets)/2)
	control := false
	for _, stored := range s.world.Everything() {
		control = control || holds(stored, []byte(s.mail["hours"].text))
	}
	s.check(control, "while the same search finds the plain mail to Zoe")

	files, leaks := 0, 0
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, secret := range s.secrets {
			if holds(b, []byte(secret)) {
				leaks++
				fmt.Fprintf(s.out, "        found %q in %s\n", secret, path)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("search the files: %w", err)
	}
	s.check(leaks == 0 && files > 0, "nor in the %d files of the key server and the gateways", files)
	return ctx.Err()
}
