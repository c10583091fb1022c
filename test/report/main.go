// Command report reads the events of 'go test -json' on standard input and
// prints what people want to know: one line a package, and everything that a
// failed test has said. With -no-skips a test that was skipped is a failure.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	noSkips := flag.Bool("no-skips", false, "a skipped test is a failure")
	flag.Parse()
	r := &report{said: map[string]*strings.Builder{}}
	if err := r.read(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	for _, s := range r.skipped {
		fmt.Println("skipped:", s)
	}
	fmt.Printf("%d tests passed, %d failed, %d skipped\n", r.passed, len(r.failed), len(r.skipped))
	if len(r.failed) > 0 || r.passed == 0 || *noSkips && len(r.skipped) > 0 {
		os.Exit(1)
	}
}

// event is one line of test2json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type report struct {
	passed          int
	failed, skipped []string
	said            map[string]*strings.Builder // per test, until it has ended
}

func (r *report) read(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil { // a message of the build
				fmt.Fprint(out, line)
			} else {
				r.take(e, out)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event, out io.Writer) {
	name := strings.TrimSpace(e.Package + " " + e.Test)
	switch e.Action {
	case "output", "build-output":
		if r.said[name] == nil {
			r.said[name] = &strings.Builder{}
		}
		r.said[name].WriteString(e.Output)
		return
	case "fail", "build-fail":
		r.failed = append(r.failed, name)
		if s := r.said[name]; s != nil {
			fmt.Fprint(out, s.String())
		}
	case "pass":
		if e.Test == "" {
			fmt.Fprintf(out, "ok   %s %.1fs\n", e.Package, e.Elapsed)
		} else {
			r.passed++
		}
	case "skip":
		if e.Test != "" { // a package without tests says so too
			r.skipped = append(r.skipped, name)
		}
	default:
		return
	}
	delete(r.said, name)
}
