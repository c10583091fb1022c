package smtpd

import (
	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/smtpd/outbox"
)

// errNoDSN refuses at MAIL or RCPT what the provider would ignore.
var errNoDSN = fixed(555, "5.5.4", "your mail provider does not report on delivery (DSN); switch delivery notifications off in the mail program")

// opening is how a transaction begins: the parameters of MAIL and of each RCPT.
type opening struct {
	from   string
	utf8   bool
	notify outbox.Notify
}

func openingOf(t Transaction) opening { return opening{t.From, t.UTF8, t.notify} }

// sameMail reports whether two transactions have the same MAIL command.
func (o opening) sameMail(p opening) bool {
	return o.from == p.from && o.utf8 == p.utf8 && o.notify.Return == p.notify.Return && o.notify.EnvelopeID == p.notify.EnvelopeID
}

func (o opening) mailOptions() *smtp.MailOptions {
	return &smtp.MailOptions{UTF8: o.utf8, Return: smtp.DSNReturn(o.notify.Return), EnvelopeID: o.notify.EnvelopeID}
}

// rcptOptions are nil where nothing was asked for.
func (o opening) rcptOptions(rcpt string) *smtp.RcptOptions {
	r, asked := o.notify.Recipients[rcpt]
	if !asked {
		return nil
	}
	out := &smtp.RcptOptions{OriginalRecipientType: smtp.DSNAddressType(r.OriginalType), OriginalRecipient: r.Original}
	for _, when := range r.When {
		out.Notify = append(out.Notify, smtp.DSNNotify(when))
	}
	return out
}

// asks reports whether MAIL has parameters of DSN.
func (o opening) asks() bool { return o.notify.Return != "" || o.notify.EnvelopeID != "" }

// noteRecipient adds what a client asked for at RCPT.
func noteRecipient(n *outbox.Notify, rcpt string, o *smtp.RcptOptions) {
	if o == nil || len(o.Notify) == 0 && o.OriginalRecipient == "" {
		return
	}
	r := outbox.Recipient{OriginalType: string(o.OriginalRecipientType), Original: o.OriginalRecipient}
	for _, when := range o.Notify {
		r.When = append(r.When, string(when))
	}
	if n.Recipients == nil {
		n.Recipients = make(map[string]outbox.Recipient)
	}
	n.Recipients[rcpt] = r
}

// notifyFor is the part of n that concerns some recipients.
func notifyFor(n outbox.Notify, rcpts []string) outbox.Notify {
	out := outbox.Notify{Return: n.Return, EnvelopeID: n.EnvelopeID}
	for _, rcpt := range rcpts {
		if r, ok := n.Recipients[rcpt]; ok {
			if out.Recipients == nil {
				out.Recipients = make(map[string]outbox.Recipient)
			}
			out.Recipients[rcpt] = r
		}
	}
	return out
}
