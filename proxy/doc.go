// Package proxy is the gateway: it stands behind imapd and smtpd, decides for
// each submitted message whether it is encrypted, sent in clear or refused,
// seals and opens messages with cloudmls and internal/mailseal, and owns the
// lifetimes of everything that runs.
//
//	g, err := proxy.New(proxy.Options{Accounts: accounts, Dir: dir, StatusToken: token})
//	err = g.Run(ctx, proxy.Listeners{IMAP: imapListener, SMTP: smtpListener})
//
// # Sending
//
// The people of a message are those of its To and Cc fields and of its
// envelope; whoever is only in the envelope is a blind recipient. One function,
// decide, says what happens to a message, and it is the only way to plain text:
// policy must allow it, the key server must have said in so many words that the
// people have no account, none of them may ever have been written to
// encrypted, and the message may not answer an encrypted one. Every other case
// is encrypted or refused.
//
// One other person is a dialog; several are the thread's group, else the newest
// group of exactly these people, else a new one (see reconcile.go). What is
// encrypted is encrypted for exactly the people addressed: the roster is
// compared again after encrypting.
//
// A message answers an encrypted one if In-Reply-To, References or
// X-Forwarded-Message-Id name a message that this device sent or opened, or a
// conversation of ours by its token; if it carries the status line of an opened
// message (forwarded as an attachment); or if, about to leave in clear, it
// names a message that the provider stores as ciphertext (see inquiry.go).
// What escapes: a message that was opened here under no Message-ID or answered
// without naming it; one that only another device opened and that is not at the
// provider any more, in a mailbox beyond the first 64, or wrapped by a relay
// that took both the conversation and the content type off its header; text
// pasted into a new message. People who were ever encrypted to are pinned and
// safe from all of that.
//
// # Receiving
//
// A sealed message is presented as the provider's trace fields, the status
// field and the exact octets that were submitted. What was shown once for a
// message never changes: the verdict is stored before it is served.
//
// # Concurrency
//
// A Gateway is safe for concurrent use. Run starts all goroutines and returns
// when they have ended.
package proxy
