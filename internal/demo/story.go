package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/world"
)

const (
	alice = "alice@north.example"
	bob   = "bob@south.example"
	carol = "carol@south.example"
	dave  = "dave@north.example"
	zoe   = "zoe@south.example"
)

func steps() []step {
	return []step{
		{"Alice writes to Bob: a dialog", dialog},
		{"Bob answers, with an attachment", attachment},
		{"Alice writes to Bob and Carol: a group of three", group},
		{"Carol answers all and puts Dave in Cc: Dave is added", addition},
		{"Bob answers Alice and Carol only: Dave is left out, not expelled", sideReply},
		{"Dave is removed for good", removal},
		{"Alice writes to Bob, with a blind copy to Carol", blindCopy},
		{"Alice saves a draft and files a sent copy", uploads},
		{"Alice writes to Zoe, who has none of this: plain mail, unchanged", outsider},
		{"Nothing leaves in clear by accident", refusals},
		{"Somebody alters what the provider stores", alteration},
		{"Alice signs in on a second device, with the password alone", secondDevice},
		{"A search through everything the providers and the key server ever stored", canaries},
	}
}

func dialog(ctx context.Context, s *stage) error {
	l := &letter{to: []string{bob}, subject: "Dinner on Friday?", text: "The table is at eight, by the window. Grüße, Alice"}
	if err := s.send(ctx, "Alice", "dinner", l); err != nil {
		return err
	}
	return s.delivered(ctx, "Bob", l, true)
}

func attachment(ctx context.Context, s *stage) error {
	photo := make([]byte, 200<<10)
	rand.Read(photo)
	l := &letter{to: []string{alice}, subject: "Re: Dinner on Friday?", text: "With pleasure. The photo of last time is attached.",
		answers: s.mail["dinner"], attachment: photo, name: "last-time.jpg"}
	if err := s.send(ctx, "Bob", "photo", l); err != nil {
		return err
	}
	return s.delivered(ctx, "Alice", l, true)
}

func group(ctx context.Context, s *stage) error {
	l := &letter{to: []string{bob, carol}, subject: "The house by the lake", text: "Shall we take it for the first week of June?"}
	if err := s.send(ctx, "Alice", "house", l); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Bob", l, true); err != nil {
		return err
	}
	return s.delivered(ctx, "Carol", l, false)
}

func addition(ctx context.Context, s *stage) error {
	house := s.mail["house"]
	l := &letter{to: []string{alice}, cc: []string{bob, dave}, subject: "Re: The house by the lake",
		text: "Yes! Dave can drive, so he is with us from now on.", answers: house}
	if err := s.send(ctx, "Carol", "dave", l); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Dave", l, true); err != nil {
		return err
	}
	for _, who := range []string{"Alice", "Bob"} {
		if err := s.delivered(ctx, who, l, false); err != nil {
			return err
		}
	}
	before, err := s.stored("Bob", "INBOX", house)
	if err != nil {
		return err
	}
	after, err := s.stored("Bob", "INBOX", l)
	if err != nil {
		return err
	}
	id := world.Field(before.Content, "CloudMLS-Conversation")
	s.check(id != "" && id == world.Field(after.Content, "CloudMLS-Conversation"), "the conversation keeps its id")
	return s.cannotOpen(ctx, "Dave", before.Content, house, "handed the ciphertext of the first message, Dave cannot open it")
}

func sideReply(ctx context.Context, s *stage) error {
	l := &letter{to: []string{alice, carol}, subject: "Re: The house by the lake",
		text: "Between us: it is Dave's birthday that week.", answers: s.mail["dave"]}
	if err := s.send(ctx, "Bob", "birthday", l); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Alice", l, true); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Carol", l, false); err != nil {
		return err
	}
	at, err := s.stored("Carol", "INBOX", l)
	if err != nil {
		return err
	}
	if err := s.cannotOpen(ctx, "Dave", at.Content, l, "handed the ciphertext, Dave cannot open it"); err != nil {
		return err
	}
	all := &letter{to: []string{bob, carol, dave}, subject: "Re: The house by the lake",
		text: "Booked. I send the keys code next week.", answers: s.mail["dave"]}
	if err := s.send(ctx, "Alice", "booked", all); err != nil {
		return err
	}
	return s.delivered(ctx, "Dave", all, false)
}

func removal(ctx context.Context, s *stage) error {
	at, err := s.stored("Bob", "INBOX", s.mail["booked"])
	if err != nil {
		return err
	}
	id, err := groupid.Parse(world.Field(at.Content, "CloudMLS-Conversation"))
	if err != nil {
		return err
	}
	client, self := s.world.Person("Bob").Device().Client(), cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: bob}
	if err := client.Remove(ctx, self, id, []cloudmls.Account{{Platform: cloudmls.PlatformEmail, ID: dave}}); err != nil {
		return err
	}
	l := &letter{to: []string{bob, carol}, subject: "Re: The house by the lake", text: "The code for the key box is 4711.", answers: s.mail["booked"]}
	if err := s.send(ctx, "Alice", "code", l); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Bob", l, true); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Carol", l, false); err != nil {
		return err
	}
	now, err := s.stored("Bob", "INBOX", l)
	if err != nil {
		return err
	}
	s.check(world.Field(now.Content, "CloudMLS-Conversation") == id.String(), "the conversation keeps its id")
	return s.cannotOpen(ctx, "Dave", now.Content, l, "handed the ciphertext, Dave cannot open it")
}

func blindCopy(ctx context.Context, s *stage) error {
	l := &letter{to: []string{bob}, bcc: []string{carol}, subject: "The contract", text: "Signed and on its way to the notary."}
	if err := s.send(ctx, "Alice", "contract", l); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Bob", l, false); err != nil {
		return err
	}
	if err := s.delivered(ctx, "Carol", l, true); err != nil {
		return err
	}
	atBob, err := s.stored("Bob", "INBOX", l)
	if err != nil {
		return err
	}
	seen, err := s.world.Person("Bob").Device().Mail().Find(ctx, "INBOX", l.id)
	if err != nil {
		return err
	}
	s.check(!holds(atBob.Content, []byte(carol)) && !holds(seen.Content, []byte(carol)), "nothing in Bob's copy tells of Carol")
	return nil
}

func uploads(ctx context.Context, s *stage) error {
	p := s.world.Person("Alice")
	draft := (&letter{from: alice, to: []string{bob}, subject: "Perhaps too early", text: "I have been thinking about the offer from Lisbon."}).compose()
	s.mail["draft"] = draft
	s.secrets = append(s.secrets, draft.text, draft.subject)
	if err := p.Device().Mail().Append(ctx, "Drafts", []string{`\Draft`}, draft.octets); err != nil {
		return err
	}
	sent := s.mail["contract"]
	if err := p.Device().Mail().Append(ctx, "Sent", []string{`\Seen`}, sent.withBcc()); err != nil {
		return err
	}
	for _, c := range []struct {
		mailbox string
		l       *letter
		octets  []byte
	}{{"Drafts", draft, draft.octets}, {"Sent", sent, sent.withBcc()}} {
		got, err := s.arrives(ctx, p.Device().Mail(), c.mailbox, c.l)
		if err != nil {
			return err
		}
		at, err := s.stored("Alice", c.mailbox, c.l)
		if err != nil {
			return err
		}
		s.show(at.Content, got.Content)
		s.check(s.sealed(at.Content, c.l) && intact(got.Content, c.octets), "%s: sealed at the provider, exact for Alice", c.mailbox)
	}
	return nil
}

func outsider(ctx context.Context, s *stage) error {
	l := &letter{to: []string{zoe}, subject: "Opening hours", text: "Are you open on Saturday?"}
	if err := s.send(ctx, "Alice", "hours", l); err != nil {
		return err
	}
	s.secrets = s.secrets[:len(s.secrets)-2] // no secret: it goes in clear
	got, err := s.arrives(ctx, s.world.Person("Zoe").Direct(), "INBOX", l)
	if err != nil {
		return err
	}
	at, err := s.stored("Zoe", "INBOX", l)
	if err != nil {
		return err
	}
	s.show(at.Content, got.Content)
	submitted := s.world.Provider("north.example").Submissions()
	s.check(string(submitted[len(submitted)-1].Content) == string(l.octets), "her provider got exactly the octets that Alice's mail program wrote")
	return nil
}

func refusals(ctx context.Context, s *stage) error {
	count := func() int { return len(s.world.Provider("north.example").Submissions()) }
	before := count()
	mixed := &letter{to: []string{bob, zoe}, subject: "Mixed", text: "Bob can read encrypted mail, Zoe cannot."}
	s.refused(s.send(ctx, "Alice", "mixed", mixed), 5, "to Bob and Zoe together")
	answer := &letter{to: []string{zoe}, subject: "Fwd: Dinner", text: "Zoe, look at this.", answers: s.mail["photo"]}
	s.refused(s.send(ctx, "Alice", "answer", answer), 5, "an answer to an encrypted message, to Zoe")
	if err := s.world.KeyServer().Stop(); err != nil {
		return err
	}
	blind := &letter{to: []string{zoe}, subject: "Nobody can say", text: "Whether Zoe has an account is unknown now."}
	s.refused(s.send(ctx, "Alice", "unknown", blind), 4, "to Zoe while the key server is down")
	if err := s.world.KeyServer().Start(); err != nil {
		return err
	}
	s.check(count() == before, "the provider was sent nothing of these")
	return nil
}

// refused checks that a submission was refused with a code of the class and shows why.
func (s *stage) refused(err error, class int, what string) {
	var smtpErr *smtp.SMTPError
	ok := errors.As(err, &smtpErr) && smtpErr.Code/100 == class
	s.check(ok, "refused %s", what)
	if err != nil {
		fmt.Fprintf(s.out, "        %s\n", printable(err.Error()))
	}
}
