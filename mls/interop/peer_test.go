package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// maxAnswer is the longest line that a peer may answer with, in bytes.
const maxAnswer = 16 << 20

// install runs the script of this folder once per test binary.
var install = sync.OnceValue(func() error {
	out, err := exec.Command("./install").CombinedOutput()
	if err != nil {
		return fmt.Errorf("install: %w: %s", err, out)
	}
	return nil
})

// peer is a process whose members run on ts-mls. It answers one command at a
// time.
type peer struct {
	in  io.Writer
	out *bufio.Scanner
}

// startPeer starts a process that ends with the test. Without node, npm or the
// registry the test is skipped, or fails if CLOUDMLS_E2E is "require".
func startPeer(t *testing.T) *peer {
	t.Helper()
	if err := install(); err != nil {
		if os.Getenv("CLOUDMLS_E2E") == "require" {
			t.Fatal(err)
		}
		t.Skipf("needs node, npm and the npm registry: %v", err)
	}
	cmd := exec.Command("./node", "peer.mjs")
	cmd.Stderr = os.Stderr
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
	p := &peer{in: in, out: bufio.NewScanner(out)}
	p.out.Buffer(nil, maxAnswer)
	t.Cleanup(func() {
		in.Close() // ends the process
		if err := cmd.Wait(); err != nil {
			t.Errorf("peer: %v", err)
		}
	})
	return p
}

// args are the arguments or the answer of a command; []byte travels as base64.
type args map[string]any

// call runs a command and decodes its answer.
func (p *peer) call(op string, in args, answer any) error {
	command := args{"op": op}
	for k, v := range in {
		command[k] = v
	}
	line, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if !p.out.Scan() {
		return fmt.Errorf("%s: the peer ended: %w", op, p.out.Err())
	}
	var failed struct{ Error string }
	if err := json.Unmarshal(p.out.Bytes(), &failed); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if failed.Error != "" {
		return fmt.Errorf("%s by ts-mls: %s", op, failed.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(p.out.Bytes(), answer)
}
