package mime

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// imapServer is an IMAP server on the standard input and output of a command,
// already authenticated, with an INBOX that may be filled.
type imapServer struct {
	in  io.WriteCloser
	out *bufio.Reader
	n   int
}

func startServer(t *testing.T, command string) *imapServer {
	cmd := exec.Command("sh", "-c", command)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Log("server ended:", err)
		}
	})
	s := &imapServer{in: in, out: bufio.NewReaderSize(out, 1<<20)}
	if _, err := s.response(); err != nil {
		t.Fatal(err)
	}
	return s
}

// response reads one response with its literals, without the final CRLF.
func (s *imapServer) response() (string, error) {
	var b strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			return "", err
		}
		b.WriteString(line)
		text := strings.TrimRight(line, "\r\n")
		var n int
		if i := strings.LastIndexByte(text, '{'); i < 0 || !strings.HasSuffix(text, "}") {
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		} else if _, err := fmt.Sscanf(text[i:], "{%d}", &n); err != nil {
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		}
		if _, err := io.CopyN(&b, s.out, int64(n)); err != nil {
			return "", err
		}
	}
}

// command sends a command and returns its untagged responses.
func (s *imapServer) command(text string) ([]string, error) {
	s.n++
	tag := fmt.Sprintf("t%d", s.n)
	if _, err := io.WriteString(s.in, tag+" "+text+"\r\n"); err != nil {
		return nil, err
	}
	var all []string
	for {
		r, err := s.response()
		if err != nil {
			return nil, err
		}
		if rest, ok := strings.CutPrefix(r, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				return nil, fmt.Errorf("%.60s: %s", text, rest)
			}
			return all, nil
		}
		all = append(all, r)
	}
}

// load makes a fresh mailbox of the messages and selects it.
func (s *imapServer) load(messages [][]byte) error {
	box := "box" + rand.Text()
	if _, err := s.command("CREATE " + box); err != nil {
		return err
	}
	for _, m := range messages {
		if _, err := s.command(fmt.Sprintf("APPEND %s {%d+}\r\n%s", box, len(m), m)); err != nil {
			return err
		}
	}
	_, err := s.command("SELECT " + box)
	return err
}

// fetch returns the items of a message, by name.
func (s *imapServer) fetch(seq int, items string) (map[string]value, error) {
	responses, err := s.command(fmt.Sprintf("FETCH %d (%s)", seq, items))
	if err != nil {
		return nil, err
	}
	got := map[string]value{}
	for _, r := range responses {
		rest, ok := strings.CutPrefix(r, fmt.Sprintf("* %d FETCH (", seq))
		for ok && !strings.HasPrefix(rest, ")") {
			name, after, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
			v, tail, err := parseValue(after)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			got[name], rest = v, tail
		}
	}
	return got, nil
}

// sections lists what a client may ask of a message: for each section the part
// octets that are the answer.
func sections(root *Part, message []byte) map[string][]byte {
	body := func(p *Part) []byte { return message[p.BodyOffset : p.BodyOffset+p.BodyLength] }
	all := map[string][]byte{"HEADER": root.Header, "TEXT": body(root)}
	var add func(path []int)
	add = func(path []int) {
		p := root.Find(path)
		if p == nil || len(path) > 6 {
			return
		}
		name := strings.Trim(strings.ReplaceAll(fmt.Sprint(path), " ", "."), "[]")
		all[name] = body(p)
		if p.Message && len(p.Children) == 1 {
			c := p.Children[0]
			all[name+".HEADER"] = c.Header
			all[name+".TEXT"] = body(c)
		}
		all[name+".MIME"] = p.Header
		for i := 1; i <= max(1, len(p.Children)) && i < 5; i++ {
			add(append(bytes2(path), i))
		}
	}
	for i := 1; i <= max(1, len(root.Children)) && i < 5; i++ {
		add([]int{i})
	}
	return all
}

func bytes2(path []int) []int { return append([]int(nil), path...) }

// compare reports how our view of a message differs from the server's.
func (s *imapServer) compare(seq int, message []byte) []string {
	root, err := Parse(bytes.NewReader(message), int64(len(message)), DefaultLimits)
	if err != nil {
		return []string{err.Error()}
	}
	theirs, err := s.fetch(seq, "RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY")
	if err != nil {
		return []string{err.Error()}
	}
	env, bs := root.Envelope(), root.BodyStructure()
	var diffs []string
	check := func(item string, ours value) {
		if got, want := show(ours), show(theirs[item]); got != want {
			diffs = append(diffs, fmt.Sprintf("%s:\n got %s\nwant %s", item, got, want))
		}
	}
	check("RFC822.SIZE", number(root.Size()))
	check("ENVELOPE", envelopeValue(&env))
	check("BODYSTRUCTURE", structureValue(bs, true))
	check("BODY", structureValue(bs, false))
	for name, want := range sections(root, message) {
		got, err := s.fetch(seq, "BODY.PEEK["+name+"]")
		if err != nil {
			return append(diffs, err.Error())
		}
		v, ok := got["BODY["+name+"]"].(string)
		if !ok && len(want) > 0 || v != string(want) {
			diffs = append(diffs, fmt.Sprintf("BODY[%s]:\n got %q\nwant %q", name, want, v))
		}
	}
	return diffs
}
