package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// settings of a gateway for a mail program.
func settings(t *testing.T, g *stack.Gateway) map[string]any {
	t.Helper()
	return map[string]any{"smtp": portOf(t, g.SMTP), "imap": portOf(t, g.IMAP), "ca": g.CA, "password": g.Password}
}

// TestPython runs a session of smtplib and imaplib through two gateways
// (testdata/session.py says what is checked).
func TestPython(t *testing.T) {
	s := stack.New(t, lab)
	lab.Empty(t, stack.Heidi, "INBOX")
	lab.Empty(t, stack.Grace, "INBOX")
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("heidi", stack.Heidi, stack.Grace)
	input, err := json.Marshal(map[string]any{"a": settings(t, a), "b": settings(t, b),
		"alice": stack.Alice, "heidi": stack.Heidi, "grace": stack.Grace})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "testdata/session.py")
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var checked int
	if _, err := fmt.Sscanf(string(out), "checked %d", &checked); err != nil || checked < 80 {
		t.Errorf("the session says %q", out)
	}
	for c, files := range stack.FindCanaries(t, []string{"CANARY-python-"}, append(lab.Folders(), s.Dir)...) {
		t.Errorf("%s lies readable in %v", c, files)
	}
}

// curl runs curl with a user's login and returns what it printed.
func curl(t *testing.T, g *stack.Gateway, user string, args ...string) string {
	t.Helper()
	args = append([]string{"--silent", "--show-error", "--max-time", "60", "--cacert", g.CA, "--user", user + ":" + g.Password}, args...)
	var stderr bytes.Buffer
	cmd := exec.Command("curl", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl %v: %v\n%s", args[7:], err, &stderr)
	}
	return string(out)
}

// TestCurl lists, searches, reads sections, uploads and submits with curl.
func TestCurl(t *testing.T) {
	s := stack.New(t, lab)
	lab.Empty(t, stack.Frank, "INBOX")
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("frank", stack.Frank)
	const canary = "CANARY-curl"
	msg := letter("<curl@a.test>", stack.Alice, []string{stack.Frank}, nil, "", canary, "8bit")
	file := filepath.Join(t.TempDir(), "letter.eml")
	if err := os.WriteFile(file, msg, 0o600); err != nil {
		t.Fatal(err)
	}
	curl(t, a, stack.Alice, "--url", "smtps://localhost:"+portOf(t, a.SMTP), "--mail-from", stack.Alice, "--mail-rcpt", stack.Frank, "--upload-file", file)
	uid := b.Mail(stack.Frank).Arrives("INBOX", "<curl@a.test>")

	root := "imaps://localhost:" + portOf(t, b.IMAP) + "/"
	list := curl(t, b, stack.Frank, root)
	for _, box := range []string{"INBOX", "Drafts", "Sent"} {
		if !strings.Contains(list, " "+box+"\r\n") {
			t.Errorf("no %s in the list:\n%s", box, list)
		}
	}
	message := fmt.Sprintf("%sINBOX;UID=%d", root, uid)
	if got := stack.WithoutPrefix(t, []byte(curl(t, b, stack.Frank, message))); !bytes.Equal(got, msg) {
		t.Errorf("read: %q, want %q", got, msg)
	}
	header, body, _ := strings.Cut(string(msg), "\r\n\r\n")
	if got := curl(t, b, stack.Frank, message+";SECTION=HEADER"); !strings.HasSuffix(got, header+"\r\n\r\n") {
		t.Errorf("SECTION=HEADER: %q", got)
	}
	if got := curl(t, b, stack.Frank, message+";SECTION=TEXT"); got != body {
		t.Errorf("SECTION=TEXT: %q", got)
	}
	if got, want := curl(t, b, stack.Frank, message+";SECTION=2"), "<p>"+canary+"</p>"; got != want {
		t.Errorf("SECTION=2: %q, want %q", got, want)
	}
	if got, want := curl(t, b, stack.Frank, message+";SECTION=1.MIME"), "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"; got != want {
		t.Errorf("SECTION=1.MIME: %q, want %q", got, want)
	}
	if got := curl(t, b, stack.Frank, root+"INBOX?FROM%20alice"); got != "* SEARCH 1\r\n" {
		t.Errorf("search: %q", got)
	}
	if got := curl(t, b, stack.Frank, root+"INBOX", "-X", "FETCH 1 (RFC822.SIZE FLAGS)"); !strings.Contains(got, "$MLSEncrypted") || strings.Contains(got, "$MLSWarning") {
		t.Errorf("FETCH: %q", got)
	}
	curl(t, b, stack.Frank, root+"Drafts", "--upload-file", file)
	c := b.Mail(stack.Frank)
	draft := c.Arrives("Drafts", "<curl@a.test>")
	if got := stack.WithoutPrefix(t, c.Fetch(draft, "BODY.PEEK[]").Str); !bytes.Equal(got, msg) {
		t.Errorf("uploaded: %q, want %q", got, msg)
	}
	for c, files := range stack.FindCanaries(t, []string{canary}, append(lab.Folders(), s.Dir)...) {
		t.Errorf("%s lies readable in %v", c, files)
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestSwaksAttachments: swaks builds the message, with two files attached; they
// are the same behind the other gateway.
func TestSwaksAttachments(t *testing.T) {
	s := stack.New(t, lab)
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("frank", stack.Frank)
	const canary = "CANARY-swaks"
	binary := bytes.Repeat([]byte{0, 1, 2, 0xff, '\r', '\n', '.'}, 30000)
	files := map[string][]byte{"table.csv": []byte("a,b\n1," + canary + "\n"), "blob.bin": append([]byte(canary), binary...)}
	dir := t.TempDir()
	host, port, err := net.SplitHostPort(a.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--server", host, "--port", port, "--tls-on-connect", "--tls-verify", "--tls-ca-path", a.CA, "--auth", "LOGIN",
		"--auth-user", stack.Alice, "--auth-password", a.Password, "--from", stack.Alice, "--to", stack.Frank, "--timeout", "60",
		"--header", "Subject: files " + canary, "--header", "Message-Id: <swaks-files@a.test>", "--body", "see the files, " + canary}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--attach-type", "application/octet-stream", "--attach-name", name, "--attach", "@"+path)
	}
	out, err := exec.Command("swaks", args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "queued as") {
		t.Fatalf("swaks: %v\n%.3000s", err, out)
	}
	c := b.Mail(stack.Frank)
	uid := c.Arrives("INBOX", "<swaks-files@a.test>")
	m, err := mail.ReadMessage(bytes.NewReader(c.Fetch(uid, "BODY.PEEK[]").Str))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header.Get("Subject"); got != "files "+canary {
		t.Errorf("subject %q", got)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := parts.NextPart()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		want, ok := files[p.FileName()]
		if !ok {
			if text, err := io.ReadAll(p); err != nil || !strings.Contains(string(text), "see the files, "+canary) {
				t.Errorf("text %q (%v)", text, err)
			}
			continue
		}
		got, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d octets, want %d (%v)", p.FileName(), len(got), len(want), err)
		}
		delete(files, p.FileName())
	}
	if len(files) > 0 {
		t.Errorf("missing: %v", files)
	}
	for c, where := range stack.FindCanaries(t, []string{canary}, append(lab.Folders(), s.Dir)...) {
		t.Errorf("%s lies readable in %v", c, where)
	}
}
