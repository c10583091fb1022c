// Package provider finds the servers of a mail address's provider and checks a
// login at them, for set-up.
//
// [Find] asks, in this order of trust:
//
//  1. the list in this package, by the address's domain: no look-up at all;
//  2. https://autoconfig.DOMAIN/mail/config-v1.1.xml;
//  3. https://DOMAIN/.well-known/autoconfig/mail/config-v1.1.xml;
//  4. both by http, only if [FindOptions.AllowHTTP] is set;
//  5. SRV records (RFC 6186, RFC 8314);
//  6. the domain's MX records: the list in this package by the mail exchanger's
//     domain, then https://autoconfig.EXCHANGER/mail/config-v1.1.xml.
//
// Nothing is guessed by trying host names, and no third party's database is
// asked: neither could be told from an attacker's answer. All look-ups run at
// once within one time limit, and the first success in the order above counts.
//
// What others learn: DNS servers and the domain's own web server learn the
// domain. The web server learns the whole address only over https, and only
// if it does not answer without (some providers choose servers by the
// address). A mail exchanger's web server and plain http never learn more
// than the domain.
//
// What is found only by plain http, MX, or SRV records whose target lies in
// another domain can be forged by whoever controls the network:
// [Settings.Confirm] says so, and the person has to agree before a password is
// sent there (RFC 6186 section 6).
package provider
