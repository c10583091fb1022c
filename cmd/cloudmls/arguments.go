package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// checkArguments makes every refusal of arguments a misuse, for a command and
// all below it, and lets it say what would be right.
func checkArguments(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return misuse{fmt.Errorf("%w%s", err, rightArguments(c, args))}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		checkArguments(sub)
	}
}

// rightArguments says what a command takes in place of what it was given.
func rightArguments(c *cobra.Command, args []string) string {
	switch {
	case c.HasSubCommands() && len(args) > 0:
		c.SuggestionsMinimumDistance = 2 // letters
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			return fmt.Sprintf("; is '%s %s' meant?", c.CommandPath(), strings.Join(near, "', or '"+c.CommandPath()+" "))
		}
	case len(c.ValidArgs) > 0:
		return "; it is one of " + strings.Join(c.ValidArgs, ", ")
	case !c.HasSubCommands():
		return "; it is used so: " + c.UseLine()
	}
	return ""
}
