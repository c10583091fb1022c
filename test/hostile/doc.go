// Package hostile attacks a key server over loopback, as strangers can: slow,
// endless and oversized requests, floods of tokens and headers, more connections
// than anybody needs. The server is a process of its own, so that its memory is
// measured; each attack has neighbours from other networks, who are served all the
// time. No time is asserted beside deadlines that a busy machine keeps.
package hostile
