package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloudmls/gateway/internal/secret"
)

// errNotATerminal says that nobody can be asked.
var errNotATerminal = errors.New("there is no terminal to ask at")

// terminal asks the person in front of it. Questions go to standard error, so
// that standard output holds results alone.
type terminal struct {
	in  *os.File
	out io.Writer
}

// newTerminal returns nil if standard input is no terminal.
func newTerminal(c *cobra.Command) *terminal {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	return &terminal{in: os.Stdin, out: c.ErrOrStderr()}
}

// Ask asks for a line; an empty answer is the preset.
func (t *terminal) Ask(question, preset string) (string, error) {
	if t == nil {
		return "", fmt.Errorf("%w: %s", errNotATerminal, question)
	}
	if preset != "" {
		question += " [" + preset + "]"
	}
	t.say("%s: ", question)
	line, err := t.line()
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	if line = strings.TrimSpace(line); line == "" {
		return preset, nil
	}
	return line, nil
}

// say writes what may hold the words of others.
func (t *terminal) say(format string, args ...any) {
	fmt.Fprint(t.out, plainText(fmt.Sprintf(format, args...)))
}

// line reads no octet more than the line: what was typed ahead may be a secret
// for the next question.
func (t *terminal) line() (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < 4096; {
		if _, err := t.in.Read(b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	return string(line), nil
}

// Confirm asks a question of yes and no.
func (t *terminal) Confirm(question string, preset bool) (bool, error) {
	choice := "y/N"
	if preset {
		choice = "Y/n"
	}
	for {
		answer, err := t.Ask(question+" ("+choice+")", "")
		if err != nil {
			return false, err
		}
		switch strings.ToLower(answer) {
		case "":
			return preset, nil
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
}

// Secret asks without showing what is typed.
func (t *terminal) Secret(what string) (secret.Secret, error) {
	if t == nil {
		return secret.Secret{}, fmt.Errorf("%w for the %s", errNotATerminal, what)
	}
	t.say("%s: ", what)
	b, err := term.ReadPassword(int(t.in.Fd()))
	fmt.Fprintln(t.out)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("read the %s: %w", what, err)
	}
	defer clear(b)
	if len(b) == 0 {
		return secret.Secret{}, fmt.Errorf("the %s is empty", what)
	}
	return secret.New(b), nil
}

// NewSecret asks twice.
func (t *terminal) NewSecret(what string) (secret.Secret, error) {
	for {
		first, err := t.Secret(what)
		if err != nil {
			return first, err
		}
		again, err := t.Secret("the same again")
		if err != nil {
			return first, err
		}
		if first.Equal(again) {
			return first, nil
		}
		fmt.Fprintln(t.out, "these two differ")
	}
}
