package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/control"
)

func conversationCommand() *cobra.Command {
	c := &cobra.Command{Use: "conversation", Aliases: []string{"conversations"}, Short: "Conversations: list them, show one, remove people from a group, leave or renew one", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(conversationList(), conversationShow(), conversationRemove(), conversationLeave(), conversationRenew())
	return c
}

func conversationList() *cobra.Command {
	var out output
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, _ []string) error {
		list, err := s.Conversations(c.Context(), account)
		if err != nil {
			return err
		}
		return out.print(c, list, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "no conversations yet: the first encrypted message makes one")
				return
			}
			rows := [][]string{{"ID", "KIND", "SINCE", "PEOPLE", ""}}
			for _, v := range list {
				rows = append(rows, []string{v.ID, v.Kind, v.Since.Local().Format(time.DateOnly), strings.Join(v.Members, ", "), v.Blocked})
			}
			table(w, rows...)
		})
	})
	c.Use, c.Short, c.Args = "list", "List an account's conversations", cobra.NoArgs
	out.flag(c)
	return c
}

func conversationShow() *cobra.Command {
	var out output
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		v, err := s.Conversation(c.Context(), account, args[0])
		if err != nil {
			return err
		}
		return out.print(c, v, func(w io.Writer) { writeConversation(w, v) })
	})
	c.Use, c.Short, c.Args = "show ID", "Show one conversation", cobra.ExactArgs(1)
	out.flag(c)
	return c
}

func writeConversation(w io.Writer, v *control.Conversation) {
	rows := [][]string{{"id", v.ID}, {"kind", v.Kind}, {"people", strings.Join(v.Members, ", ")},
		{"since", v.Since.Local().Format(time.DateTime)}, {"changed", v.Updated.Local().Format(time.DateTime)}, {"epoch", fmt.Sprint(v.Epoch)}}
	if len(v.Leaving) > 0 {
		rows = append(rows, []string{"leaving", strings.Join(v.Leaving, ", ")})
	}
	if v.PostQuantum {
		rows = append(rows, []string{"post-quantum", "yes"})
	}
	if v.Left {
		rows = append(rows, []string{"left", "you have left it"})
	}
	if v.Blocked != "" {
		rows = append(rows, []string{"blocked", v.Blocked})
	}
	table(w, rows...)
}

func conversationRemove() *cobra.Command {
	var out output
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		v, err := s.RemoveMembers(c.Context(), account, args[0], args[1:])
		if err != nil {
			return err
		}
		return out.print(c, v, func(w io.Writer) {
			fmt.Fprintf(w, "removed; nobody of them can read what is written from now on\n")
			writeConversation(w, v)
		})
	})
	c.Use, c.Short, c.Args = "remove ID ADDRESS...", "Remove people from a group for good", cobra.MinimumNArgs(2)
	c.Long = `Removes people from a group: what is written in it from now on cannot be read by them. The conversation keeps its id.
(Leaving somebody out of a reply does not remove them: that reply goes to the conversation of the others.)`
	out.flag(c)
	return c
}

func conversationLeave() *cobra.Command {
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		if err := s.LeaveConversation(c.Context(), account, args[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "left; nothing more is sent there, and the next one who writes takes you out. What came before stays readable")
		return err
	})
	c.Use, c.Short, c.Args = "leave ID", "Leave a group", cobra.ExactArgs(1)
	return c
}

func conversationRenew() *cobra.Command {
	var out output
	c := accountCommandOf(func(c *cobra.Command, s *service, account string, args []string) error {
		v, err := s.RenewConversation(c.Context(), account, args[0])
		if err != nil {
			return err
		}
		return out.print(c, v, func(w io.Writer) {
			fmt.Fprintln(w, "the conversation begins anew, with the same people; what came before stays readable, and they are told")
			writeConversation(w, v)
		})
	})
	c.Use, c.Short, c.Args = "renew ID", "Begin a conversation anew whose keys cannot be repaired", cobra.ExactArgs(1)
	c.Long = `Gives a conversation new keys from the start, with the same people. It is rarely needed: a member who lost track is let in
again by the others without anybody's help. Others accept it only from somebody whom they knew in it, and are told.`
	out.flag(c)
	return c
}
