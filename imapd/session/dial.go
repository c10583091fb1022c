package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudmls/gateway/imapd/wire"
)

const (
	// tagPrefix begins the tags of the relay's own commands; a client that
	// uses it is refused.
	tagPrefix = "CMLSGW"
	// maxHandshakeLines bounds the untagged responses to one command before
	// the session begins.
	maxHandshakeLines = 100
	// maxHandshakeLine bounds each of them.
	maxHandshakeLine = 64 << 10
)

// connect dials the provider and signs in. The untagged [ALERT] lines that the
// provider sends meanwhile are returned for the client.
func connect(ctx context.Context, a Account, l Limits) (*upstream, [][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, l.DialTimeout)
	defer cancel()
	conn, err := a.Dial(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("dial mail provider: %w", err)
	}
	// Whatever blocks below ends when ctx does.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	h := &handshake{up: newUpstream(conn, l.Progress), target: a.Upstream()}
	err = h.run(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		h.up.conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		return nil, h.alerts, err
	}
	return h.up, h.alerts, nil
}

// handshake is the dialogue with the provider before the session begins: one
// command at a time, nothing relayed.
type handshake struct {
	up     *upstream
	target Upstream
	n      int
	alerts [][]byte
}

func (h *handshake) run(ctx context.Context) error {
	preauth, err := h.greeting()
	if err != nil {
		return err
	}
	if h.target.StartTLS {
		if preauth {
			// Anyone on the path can send PREAUTH to keep TLS off.
			return &providerError{text: "The mail provider offers no encryption on this port (PREAUTH), the connection was refused"}
		}
		if err := h.startTLS(ctx); err != nil {
			return err
		}
	}
	if !preauth {
		if h.up.caps == nil {
			if err := h.capability(); err != nil {
				return err
			}
		}
		if err := h.login(ctx); err != nil {
			return err
		}
	}
	if h.up.caps == nil {
		return h.capability()
	}
	return nil
}

func (h *handshake) greeting() (preauth bool, err error) {
	line, err := h.readLine()
	if err != nil {
		return false, fmt.Errorf("read greeting: %w", err)
	}
	status, rest := splitStatus(line)
	switch status {
	case "OK", "PREAUTH":
		h.noteCapabilities(line)
		return status == "PREAUTH", nil
	case "BYE":
		return false, &providerError{text: "The mail provider refused the connection: " + string(rest)}
	}
	return false, &providerError{text: "The mail provider's server does not speak IMAP"}
}

// startTLS upgrades the connection, or fails (security: "must" mode). What was
// learnt in clear is forgotten, and nothing may have been sent ahead of the
// handshake.
func (h *handshake) startTLS(ctx context.Context) error {
	status, text, err := h.command("STARTTLS", nil)
	if err != nil {
		return err
	}
	if status != "OK" {
		return &providerError{text: "The mail provider refused encryption (STARTTLS): " + text}
	}
	if h.up.r.Buffered() > 0 {
		return &providerError{text: "Data was injected before encryption began (STARTTLS), the connection was refused"}
	}
	config := h.target.TLSConfig
	if config == nil {
		config = &tls.Config{ServerName: h.target.ServerName, MinVersion: tls.VersionTLS12}
	} else if config.ServerName == "" && h.target.ServerName != "" {
		config = config.Clone()
		config.ServerName = h.target.ServerName
	}
	conn := tls.Client(NewBuffered(h.up.conn.Conn), config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("upgrade to tls: %w", err)
	}
	h.up = newUpstream(conn, h.up.conn.progress)
	h.alerts = nil
	return nil
}

func (h *handshake) capability() error {
	status, text, err := h.command("CAPABILITY", nil)
	if err != nil {
		return err
	}
	if status != "OK" || h.up.caps == nil {
		return &providerError{text: "The mail provider did not tell its capabilities: " + text}
	}
	return nil
}

// login signs in: AUTHENTICATE PLAIN where it is offered, else LOGIN.
func (h *handshake) login(ctx context.Context) error {
	password, err := h.target.Password(ctx)
	if err != nil {
		return &Failure{Code: "UNAVAILABLE", Text: "The password for the mail provider is not available", Err: errors.Join(ErrNoPassword, err)}
	}
	user := h.target.Username
	if strings.ContainsAny(user+password, "\r\n\x00") {
		return &Failure{Code: "UNAVAILABLE", Text: "User name or password for the mail provider contains a line end"}
	}
	caps := h.up.caps
	h.up.caps = nil // those after login count
	var status, text string
	switch {
	case caps.has("AUTH=PLAIN"):
		response := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
		if caps.has("SASL-IR") {
			status, text, err = h.command("AUTHENTICATE PLAIN "+response, nil)
		} else {
			status, text, err = h.command("AUTHENTICATE PLAIN", [][]byte{[]byte(response + "\r\n")})
		}
	case !caps.has("LOGINDISABLED"):
		status, text, err = h.loginCommand(user, password)
	default:
		return &providerError{text: "The mail provider offers no way to sign in with a password"}
	}
	if err != nil {
		return err
	}
	if status != "OK" {
		return &providerError{text: "The mail provider refused the gateway's sign-in: " + text, err: SignInError(text)}
	}
	return nil
}

// loginCommand sends LOGIN, with synchronising literals for what cannot be
// quoted.
func (h *handshake) loginCommand(user, password string) (string, string, error) {
	line := []byte("LOGIN ")
	var pieces [][]byte
	for i, arg := range []string{user, password} {
		if i > 0 {
			line = append(line, ' ')
		}
		if wire.Quotable([]byte(arg)) {
			line = wire.AppendQuoted(line, []byte(arg))
			continue
		}
		line = fmt.Appendf(line, "{%d}", len(arg))
		pieces = append(pieces, line)
		line = []byte(arg)
	}
	pieces = append(pieces, append(line, "\r\n"...))
	for i := 1; i < len(pieces)-1; i++ {
		pieces[i] = append(pieces[i], "\r\n"...)
	}
	first := string(bytes.TrimSuffix(pieces[0], []byte("\r\n")))
	return h.command(first, pieces[1:])
}

// command sends a command and returns the tagged status and text. Each piece
// follows one continuation request.
func (h *handshake) command(text string, pieces [][]byte) (string, string, error) {
	h.n++
	tag := fmt.Sprintf("%s%d", tagPrefix, h.n)
	if err := h.write(tag + " " + text + "\r\n"); err != nil {
		return "", "", err
	}
	for range maxHandshakeLines {
		line, err := h.readLine()
		if err != nil {
			return "", "", fmt.Errorf("read answer: %w", err)
		}
		switch {
		case len(line) > 0 && line[0] == '+':
			if len(pieces) == 0 {
				// A challenge that was not expected: cancel.
				if err := h.write("*\r\n"); err != nil {
					return "", "", err
				}
				continue
			}
			if err := h.write(string(pieces[0])); err != nil {
				return "", "", err
			}
			pieces = pieces[1:]
		case bytes.HasPrefix(line, []byte("* ")):
			if err := h.untagged(line); err != nil {
				return "", "", err
			}
		case bytes.HasPrefix(line, []byte(tag+" ")):
			status, rest := splitStatus(line)
			switch status {
			case "OK":
				h.noteCapabilities(line)
				return status, string(rest), nil
			case "NO", "BAD":
				return status, string(rest), nil
			}
			return "", "", &providerError{text: "The mail provider's server does not speak IMAP"}
		default:
			return "", "", &providerError{text: "The mail provider's server does not speak IMAP"}
		}
	}
	return "", "", &providerError{text: "The mail provider sent too much before sign-in"}
}

func (h *handshake) write(text string) error {
	if _, err := h.up.w.WriteString(text); err != nil {
		return fmt.Errorf("write to mail provider: %w", err)
	}
	if err := h.up.w.Flush(); err != nil {
		return fmt.Errorf("write to mail provider: %w", err)
	}
	return nil
}

func (h *handshake) readLine() ([]byte, error) {
	seg, err := h.up.r.ReadSegment(maxHandshakeLine)
	if errors.Is(err, wire.ErrTooLong) {
		return nil, &providerError{text: "The mail provider's server does not speak IMAP", err: err}
	}
	if err != nil {
		return nil, err
	}
	return bytes.Clone(seg.Line()), nil
}

func (h *handshake) untagged(line []byte) error {
	status, rest := splitStatus(line)
	switch status {
	case "BYE":
		return &providerError{text: "The mail provider closed the connection: " + string(rest)}
	case "OK", "NO", "BAD":
		if containsFold(rest, "[alert]") {
			h.alerts = append(h.alerts, append(line, "\r\n"...))
		}
	}
	h.noteCapabilities(line)
	return nil
}

// noteCapabilities takes over a capability list from an untagged CAPABILITY
// or a response code.
func (h *handshake) noteCapabilities(line []byte) {
	if caps, ok := capabilityList(line); ok {
		h.up.caps = strings.Fields(string(caps))
	}
}

// splitStatus splits "x STATUS rest", x being a tag or "*".
func splitStatus(line []byte) (status string, rest []byte) {
	_, after, _ := bytes.Cut(line, []byte{' '})
	s, rest, _ := bytes.Cut(after, []byte{' '})
	return strings.ToUpper(string(s)), rest
}

// capabilityList returns the capabilities in "* CAPABILITY ..." or in a
// response code [CAPABILITY ...].
func capabilityList(line []byte) ([]byte, bool) {
	const untagged, code = "* CAPABILITY ", "[CAPABILITY "
	if len(line) >= len(untagged) && equalFold(string(line[:len(untagged)]), untagged) {
		return line[len(untagged):], true
	}
	// The code stands directly behind the status.
	_, rest := splitStatus(line)
	if len(rest) < len(code) || !equalFold(string(rest[:len(code)]), code) {
		return nil, false
	}
	end := bytes.IndexByte(rest, ']')
	if end < 0 {
		return nil, false
	}
	return rest[len(code):end], true
}
