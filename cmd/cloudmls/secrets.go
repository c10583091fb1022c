package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/secret"
)

// secretSource says where a command finds a secret: never among its arguments,
// which every user of the machine can read.
type secretSource struct{ file, env string }

// flags adds --NAME-file and --NAME-env.
func (s *secretSource) flags(c *cobra.Command, name, what string) {
	c.Flags().StringVar(&s.file, name+"-file", "", "file that holds "+what+", readable by its owner alone; - is standard input")
	c.Flags().StringVar(&s.env, name+"-env", "", "environment variable that holds "+what)
}

// given reports whether the command line names a source.
func (s secretSource) given() bool { return s.file != "" || s.env != "" }

// read takes the secret from the source.
func (s secretSource) read(in *stdinLines) (secret.Secret, error) {
	switch {
	case s.file == "-":
		return in.secret()
	case s.file != "":
		return secret.FromFile(s.file)
	case s.env != "":
		return secret.FromEnv(s.env)
	}
	return secret.Secret{}, errors.New("no source is named")
}

// stdinLines gives one line of standard input after the other, so that several
// secrets can come from there, in the order in which the command asks for them.
type stdinLines struct{ r *bufio.Reader }

func newStdinLines(r io.Reader) *stdinLines {
	return &stdinLines{bufio.NewReader(io.LimitReader(r, 1<<16))}
}

func (l *stdinLines) secret() (secret.Secret, error) {
	b, err := l.r.ReadBytes('\n')
	defer clear(b)
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.Secret{}, fmt.Errorf("read standard input: %w", err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return secret.Secret{}, errors.New("standard input holds no further secret; one line each")
	}
	return secret.New([]byte(text)), nil
}
