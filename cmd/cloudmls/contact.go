package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/control"
)

func contactCommand() *cobra.Command {
	c := &cobra.Command{Use: "contact", Aliases: []string{"contacts"}, Short: "People you write to: list them, compare codes, verify them", Args: cobra.NoArgs,
		Long: `The key of everyone you exchange encrypted mail with is remembered at first use. To be sure that it is theirs, compare
the 60 digits of 'cloudmls contact code' with them, by telephone or in person, and run 'cloudmls contact verify'.
If a verified person's key changes, nothing is sent to them until you accept or verify the new one.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(contactList(), contactShow(), contactCode(), contactVerify(), contactUnverify(), contactAccept())
	return c
}

func contactList() *cobra.Command {
	var out output
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, _ []string) error {
		list, err := s.Contacts(c.Context(), account)
		if err != nil {
			return err
		}
		return out.print(c, list, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "no contacts yet: the first encrypted message to or from somebody makes one")
				return
			}
			rows := [][]string{{"ADDRESS", "STATE", "KNOWN SINCE"}}
			for _, p := range list {
				rows = append(rows, []string{p.Address, p.State, day(p.Since)})
			}
			table(w, rows...)
		})
	})
	c.Use, c.Short, c.Args = "list", "List the people whose keys are known", cobra.NoArgs
	out.flag(c)
	return c
}

func contactShow() *cobra.Command {
	var out output
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		p, err := s.Contact(c.Context(), account, args[0])
		if err != nil {
			return err
		}
		return out.print(c, p, func(w io.Writer) { writeContact(w, p) })
	})
	c.Use, c.Short, c.Args = "show ADDRESS", "Show what is known of one person", cobra.ExactArgs(1)
	out.flag(c)
	return c
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateOnly)
}

func writeContact(w io.Writer, p *control.Contact) {
	rows := [][]string{{"address", p.Address}, {"state", p.State}, {"key", hex.EncodeToString(p.Key)}, {"known since", day(p.Since)}}
	if !p.VerifiedAt.IsZero() {
		rows = append(rows, []string{"verified", day(p.VerifiedAt)})
	}
	if len(p.NewKey) > 0 {
		confirmed := "the key server does not name it: be careful"
		if p.NewConfirmed {
			confirmed = "the key server names it"
		}
		rows = append(rows, []string{"new key", hex.EncodeToString(p.NewKey)}, []string{"", confirmed})
	}
	table(w, rows...)
	if len(p.NewKey) > 0 {
		fmt.Fprintf(w, "The key has changed. If %s has set up anew, compare codes: cloudmls contact code %s\n", p.Address, p.Address)
	}
}

func contactCode() *cobra.Command {
	var out output
	var square bool
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		code, err := s.ContactCode(c.Context(), account, args[0])
		if err != nil {
			return err
		}
		picture, err := qrText(code.QR)
		if err != nil {
			return err
		}
		return out.print(c, code, func(w io.Writer) {
			if square {
				fmt.Fprintln(w, picture)
			}
			writeCode(w, code.Code)
			fmt.Fprintf(w, "\n%s sees the same digits with: cloudmls contact code %s\nThey are equal? Then: cloudmls contact verify %s\n", code.Address, account, code.Address)
		})
	})
	c.Use, c.Short, c.Args = "code ADDRESS", "Show the 60 digits to compare with a person", cobra.ExactArgs(1)
	c.Flags().BoolVar(&square, "qr", false, "show the code as a QR code as well, for programs that can scan it")
	out.flag(c)
	return c
}

// writeCode writes the groups of five, four to a line, as they are read aloud.
func writeCode(w io.Writer, code string) {
	for i, n := 0, 0; i+5 <= len(code); n++ {
		end := " "
		if n%4 == 3 {
			end = "\n"
		}
		fmt.Fprint(w, code[i:i+5], end)
		i += 5
		if i < len(code) && code[i] == ' ' {
			i++
		}
	}
}

func contactVerify() *cobra.Command {
	var out output
	var code string
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		var key []byte
		if code == "" {
			shown, err := s.ContactCode(c.Context(), account, args[0])
			if err != nil {
				return err
			}
			writeCode(c.ErrOrStderr(), shown.Code)
			yes, err := newTerminal(c).Confirm(fmt.Sprintf("Does %s see exactly these digits", args[0]), false)
			if err != nil {
				return fmt.Errorf("%w; pass the digits that the other side read to you with --code", err)
			}
			if !yes {
				return fmt.Errorf("not verified; if the digits differ, somebody may stand between you and %s: do not send anything that matters", args[0])
			}
			key = shown.Key
		}
		p, err := s.VerifyContact(c.Context(), account, args[0], code, key)
		if err != nil {
			return err
		}
		return out.print(c, p, func(w io.Writer) { fmt.Fprintf(w, "%s is verified\n", p.Address) })
	})
	c.Use, c.Short, c.Args = "verify ADDRESS", "Mark a person as verified after comparing the digits", cobra.ExactArgs(1)
	c.Flags().StringVar(&code, "code", "", "the 60 digits that the other person sees; without it they are shown and you are asked")
	out.flag(c)
	return c
}

func contactUnverify() *cobra.Command {
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		p, err := s.UnverifyContact(c.Context(), account, args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is not verified any more\n", p.Address)
		return err
	})
	c.Use, c.Short, c.Args = "unverify ADDRESS", "Take the mark of a verified person back", cobra.ExactArgs(1)
	return c
}

func contactAccept() *cobra.Command {
	var digits string
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		p, err := s.Contact(c.Context(), account, args[0])
		if err != nil {
			return err
		}
		if len(p.NewKey) == 0 {
			_, err := fmt.Fprintf(c.OutOrStdout(), "the key of %s has not changed; there is nothing to accept\n", p.Address)
			return err
		}
		key := p.NewKey
		if digits != "" {
			if key, err = hex.DecodeString(digits); err != nil {
				return misuse{fmt.Errorf("--key: %w", err)}
			}
		} else {
			writeContact(c.ErrOrStderr(), p)
			yes, err := newTerminal(c).Confirm("Accept the new key without comparing codes", false)
			if err != nil {
				return fmt.Errorf("%w; pass the new key of 'cloudmls contact show %s' with --key", err, p.Address)
			}
			if !yes {
				return fmt.Errorf("nothing changed; mail to %s waits for your decision", p.Address)
			}
		}
		if p, err = s.AcceptContact(c.Context(), account, args[0], key); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "the new key of %s is accepted; it is not verified\n", p.Address)
		return err
	})
	c.Use, c.Short, c.Args = "accept ADDRESS", "Accept a person's changed key without comparing codes", cobra.ExactArgs(1)
	c.Flags().StringVar(&digits, "key", "", "the new key in hexadecimal, as 'contact show' prints it; without it you are asked")
	return c
}
