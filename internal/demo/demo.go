// Package demo plays the main job of the gateway on one machine: four people
// with ordinary mail programs, two mail providers, a key server, and a gateway
// for each of the four. Every step shows what the provider stores beside what
// the reader sees, and checks both.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudmls/gateway/internal/world"
)

// Options of Run.
type Options struct {
	// Out gets the story.
	Out io.Writer
	// Serve keeps everything running after the story, until the context ends,
	// and prints the settings for a mail program.
	Serve bool
	// Dir holds the files of the key server and the gateways; empty means a
	// temporary folder that is removed at the end.
	Dir string
}

// FailedError says how many checks of the story failed.
type FailedError struct{ Failed, Total int }

// Error implements error.
func (e *FailedError) Error() string {
	return fmt.Sprintf("%d of %d checks failed", e.Failed, e.Total)
}

// Run plays the story. It returns a *FailedError if a check failed, and any
// other error if the story could not be played to its end.
func Run(ctx context.Context, o Options) (err error) {
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "cloudmls-demo-"); err != nil {
			return fmt.Errorf("make a folder for the demo: %w", err)
		}
		defer func() {
			if rmErr := os.RemoveAll(dir); rmErr != nil && err == nil {
				err = fmt.Errorf("remove the demo's folder: %w", rmErr)
			}
		}()
	}
	began := time.Now()
	fmt.Fprint(o.Out, "CloudMLS demo: everything runs on this machine, on loopback only.\n\n")
	w, err := world.New(ctx, world.Options{
		Dir:    dir,
		People: people(),
		Progress: func(what string) {
			fmt.Fprintf(o.Out, "   %5.1f s  starting %s\n", time.Since(began).Seconds(), what)
		},
	})
	if err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	defer func() {
		if closeErr := w.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("stop the demo: %w", closeErr)
		}
	}()
	s := &stage{world: w, dir: dir, out: o.Out, began: began, mail: map[string]*letter{}}
	if err := s.play(ctx, steps()); err != nil {
		return err
	}
	s.summary()
	if o.Serve {
		if err := serve(ctx, o.Out, w, dir); err != nil {
			return err
		}
	}
	if s.failed > 0 {
		return &FailedError{Failed: s.failed, Total: s.failed + s.passed}
	}
	return nil
}

func people() []world.Spec {
	return []world.Spec{
		{Name: "Alice", Address: "alice@north.example"},
		{Name: "Bob", Address: "bob@south.example"},
		{Name: "Carol", Address: "carol@south.example"},
		{Name: "Dave", Address: "dave@north.example"},
		{Name: "Zoe", Address: "zoe@south.example", Outsider: true},
	}
}

// serve prints the settings for mail programs and waits for the end of ctx.
func serve(ctx context.Context, out io.Writer, w *world.World, dir string) error {
	ca := filepath.Join(dir, "authority.pem")
	if err := os.WriteFile(ca, w.Provider("north.example").AuthorityPEM(), 0o600); err != nil {
		return fmt.Errorf("write the certificate for mail programs: %w", err)
	}
	fmt.Fprint(out, "\nThe demo keeps running; end it with Ctrl-C. Settings for a mail program (SSL/TLS, normal password):\n\n")
	for _, p := range w.People() {
		for i, d := range p.Devices() {
			m := d.Mail()
			fmt.Fprintf(out, "   %s, device %d\n      IMAP server %-18s SMTP server %s\n      user name   %-18s password    %s\n",
				p.Name, i+1, byName(m.IMAPAddr), byName(m.SMTPAddr), m.Username, m.Password)
		}
	}
	fmt.Fprintf(out, "\n   certificate to trust: %s\n", ca)
	fmt.Fprintln(out)
	<-ctx.Done()
	return nil
}

// byName gives the address with the host's name: some programs compare
// certificates with names only.
func byName(addr string) string {
	return strings.Replace(addr, "127.0.0.1", "localhost", 1)
}
