package smtpd

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
)

// scripted is a provider that answers each command as a test says, in octets
// that no real server gives on demand.
type scripted struct {
	ln      net.Listener
	replies map[string]string // by the first word of the command, "." for the content
}

func newScripted(t *testing.T, replies map[string]string) *scripted {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	s := &scripted{ln, replies}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *scripted) serve(conn net.Conn) {
	defer conn.Close()
	say := func(text string) { _, _ = fmt.Fprint(conn, text) } // the test sees what is missing
	say("220 scripted\r\n")
	in, content := bufio.NewScanner(conn), false
	for in.Scan() {
		line := in.Text()
		word, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if content {
			if line != "." {
				continue
			}
			word, content = ".", false
		}
		if strings.Contains(line, "bad@") {
			word = "BAD"
		}
		reply, ok := s.replies[word]
		switch {
		case ok:
		case word == "EHLO":
			reply = "250-scripted\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
		case word == "DATA":
			reply = "354 go on\r\n"
		default:
			reply = "250 2.0.0 fine\r\n"
		}
		content = word == "DATA" && strings.HasPrefix(reply, "354")
		say(reply)
		if strings.HasPrefix(reply, "421") || word == "QUIT" {
			return
		}
	}
}

// TestRepliesInEachStage: code, enhanced code and text of every line reach the
// client as the provider sent them, whichever command they answer.
func TestRepliesInEachStage(t *testing.T) {
	for _, reply := range []string{
		"450 4.2.1 mailbox busy\r\n",
		"451 no enhanced code\r\n",
		"550 5.7.1 not you\r\n",
		"554-5.7.1 first line\r\n554-5.7.1 second line\r\n554 5.7.1 third line\r\n",
		"552-no enhanced code\r\n552 here neither\r\n",
		"550-5.7.26 Unauthenticated.\r\n550 5.7.26 See https://provider.example/?a=1&b=2 - gsmtp\r\n",
		"421 4.3.2 going down\r\n",
		"421-4.7.0 two\r\n421 4.7.0 lines\r\n",
	} {
		for _, stage := range []string{"MAIL", "RCPT", "DATA", "."} {
			t.Run(stage+" "+reply[:3]+" "+fmt.Sprint(strings.Count(reply, "\n")), func(t *testing.T) {
				w := newWorld(t, worldOptions{})
				w.account.upstream = Upstream{Addr: newScripted(t, map[string]string{stage: reply}).ln.Addr().String(), Mode: TLSNone}
				r := w.rawLogin()
				got := ""
				for _, command := range []string{"MAIL FROM:<" + alice + ">\r\n", "RCPT TO:<" + bob + ">\r\n", "DATA\r\n", letter + ".\r\n"} {
					r.say(command)
					var err error
					if got, err = r.reply(); err != nil {
						t.Fatal(err)
					}
					if got[0] == '4' || got[0] == '5' {
						break
					}
				}
				if got != reply {
					t.Errorf("the client reads %q, the provider said %q", got, reply)
				}
			})
		}
	}
}

// TestSomeRecipientsRefused: the refused ones get the provider's words, the
// others the message.
func TestSomeRecipientsRefused(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.account.upstream = Upstream{Addr: newScripted(t, map[string]string{
		"BAD": "550-5.1.1 nobody\r\n550 5.1.1 here\r\n", ".": "250 2.6.0 <x@y> queued as 7\r\n",
	}).ln.Addr().String(), Mode: TLSNone}
	r := w.rawLogin()
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("250")
	r.say("RCPT TO:<bad@example.net>\r\n")
	if got := r.want("550"); got != "550-5.1.1 nobody\r\n550 5.1.1 here\r\n" {
		t.Errorf("refused recipient: %q", got)
	}
	r.say("RCPT TO:<" + carol + ">\r\n")
	r.want("250")
	r.say("DATA\r\n")
	r.want("354")
	r.say(letter + ".\r\n")
	if got := r.want("250"); got != "250 2.6.0 <x@y> queued as 7\r\n" {
		t.Errorf("final reply: %q", got)
	}
	if got := w.account.received(); len(got) != 1 || strings.Join(got[0].envelope.Recipients, " ") != bob+" "+carol {
		t.Errorf("submitted: %+v", got)
	}
}
