// Package smtpd accepts submissions (RFC 6409) from local mail clients, passes
// each message through an [Account], and relays what comes back to the mail
// provider.
//
// It knows SMTP and nothing of MLS: which messages are sealed, for whom, and
// which are refused is decided by the [Backend], whose implementation is the
// gateway. What smtpd guarantees is the transport:
//
//   - the content handed to [Account.Seal] is exactly what the client sent,
//     and holds no bare CR, no bare LF and no NUL;
//   - 250 is said only after the provider's own 250, or, where one submission
//     needs several transactions, after the first of them succeeded and the
//     others are on disk;
//   - the provider's code, enhanced code and text reach the client unchanged;
//   - nothing in clear touches the disk: a large message waits in a temporary
//     file under a key that exists in memory only, and the outbox takes sealed
//     content alone.
//
// Listeners are meant for loopback addresses. A plain listener on any other
// address is refused.
package smtpd
