package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/device"
)

func storeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "store", Short: "Where your sealed state lies: look, move it to a store of your own and back", Args: cobra.NoArgs,
		Long: `Your state (keys, conversations and what opens old mail, all sealed) lies at the key server, or at a store of your own: a key
server that you or somebody you choose operates, with a login of its own, which your devices keep. The key server still signs
you in, with the same password, and tells new devices where the state is; it has the state no longer.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(storeStatus(), storeMove(), storeResume(), storeCancel())
	return c
}

func storeStatus() *cobra.Command {
	var out output
	c := serviceCommandOf(func(c *cobra.Command, s *service, _ []string) error {
		st, err := s.Store(c.Context())
		if err != nil {
			return err
		}
		return out.print(c, st, func(w io.Writer) { writeStore(w, st) })
	})
	c.Use, c.Short, c.Args = "status", "Say where your sealed state lies, and whether it is moving", cobra.NoArgs
	out.flag(c)
	return c
}

func writeStore(w io.Writer, st *control.StoreStatus) {
	where := st.Origin + ", a store of your own; you are " + st.Username + " there"
	if st.Home {
		where = st.Origin + ", the key server"
	}
	fmt.Fprintf(w, "your sealed state is at %s: %s, %s\n", where, plural(st.Objects, "object", "objects"), octets(st.Bytes))
	if st.Moving != "" {
		fmt.Fprintf(w, "it is moving to %s. Finish that: cloudmls store resume; or give it up: cloudmls store cancel\n", st.Moving)
	}
}

func storeMove() *cobra.Command {
	var file, user string
	var home bool
	var invitation secretSource
	c := &cobra.Command{
		Use: "move URL | --home", Short: "Move your sealed state to a store of your own, or back to the key server", Args: cobra.MaximumNArgs(1),
		Long: `Moves your sealed state to the key server at URL, which needs the roles auth and store and is called by the same URL in its
own configuration (origin). A user is registered for you there, under a random secret that your devices share and that has
nothing to do with your password. --home moves it back.

Other devices of yours may be in use: they read on, what they write waits until the state has arrived, and they follow by
themselves. The old store deletes what it had after the new one was seen to have it. Cut off at any moment, the move is
finished by 'cloudmls store resume' or by the gateway of any of your devices, or given up by 'cloudmls store cancel'. The gateway
of this device must not run meanwhile.
`,
		RunE: func(c *cobra.Command, args []string) error {
			if home == (len(args) == 1) {
				return misuse{errors.New("say where to: the URL of a store of your own, or --home")}
			}
			g, err := loadGateway(file)
			if err != nil {
				return err
			}
			var to cloudmls.StoreTarget
			if !home {
				if to, err = storeTarget(c, g, args[0], user, invitation); err != nil {
					return err
				}
			}
			return alone(c, g, func(_ *device.Device, client *cloudmls.Client) error {
				return storeMoved(c, client, client.MoveStore(c.Context(), to, tellMove(c)))
			})
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	c.Flags().BoolVar(&home, "home", false, "move it back to the key server")
	c.Flags().StringVar(&user, "user", "", "user name to register there (default: as at the key server)")
	invitation.flags(c, "invitation", "the invitation of the store's operator")
	return c
}

func storeTarget(c *cobra.Command, g *config.Gateway, at, user string, invitation secretSource) (to cloudmls.StoreTarget, err error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return to, misuse{fmt.Errorf("%q is not an address of the form https://host", at)}
	}
	to.Origin, to.Username = u.Scheme+"://"+u.Host, user
	if user == "" {
		to.Username = g.User.Name
	}
	if invitation.given() {
		s, err := invitation.read(newStdinLines(c.InOrStdin()))
		if err != nil {
			return to, fmt.Errorf("invitation: %w", err)
		}
		to.Invitation = s.RevealString()
	}
	return to, nil
}

func storeResume() *cobra.Command {
	return storeAlone("resume", "Finish a move that was cut off", func(c *cobra.Command, client *cloudmls.Client) error {
		return storeMoved(c, client, client.ResumeMove(c.Context(), tellMove(c)))
	})
}

func storeCancel() *cobra.Command {
	return storeAlone("cancel", "Give up a move: your state stays where it is", func(c *cobra.Command, client *cloudmls.Client) error {
		err := client.CancelMove(c.Context())
		if errors.Is(err, cloudmls.ErrNoMove) {
			_, err = fmt.Fprintln(c.OutOrStdout(), "nothing is moving")
			return err
		}
		return storeMoved(c, client, err)
	})
}

// storeAlone makes a command that has the device for itself.
func storeAlone(use, short string, work func(*cobra.Command, *cloudmls.Client) error) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g, err := loadGateway(file)
			if err != nil {
				return err
			}
			return alone(c, g, func(_ *device.Device, client *cloudmls.Client) error { return work(c, client) })
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	return c
}

func tellMove(c *cobra.Command) func(cloudmls.MoveProgress) {
	tell := progress(c)
	return func(p cloudmls.MoveProgress) {
		switch p.Stage {
		case cloudmls.MoveReady:
			tell("the new store knows you")
		case cloudmls.MoveCopying:
			tell("copying: %d of %d", p.Done, p.Total)
		case cloudmls.MoveVerified:
			tell("the new store has all of it")
		}
	}
}

// storeMoved says where the state is after a command, or what to do.
func storeMoved(c *cobra.Command, client *cloudmls.Client, err error) error {
	var refused *cloudmls.TargetError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("%w; your state stays where it is", err)
	case errors.Is(err, cloudmls.ErrMoveBusy), errors.Is(err, cloudmls.ErrMoveDecided):
		return fmt.Errorf("%w ('cloudmls store status' shows it)", err)
	case errors.Is(err, cloudmls.ErrMovesLeft):
		return fmt.Errorf("%w (finish them: cloudmls store resume); your state stays where it is", err)
	case err != nil:
		return fmt.Errorf("%w (finish it: cloudmls store resume; or give it up: cloudmls store cancel)", err)
	}
	st, err := client.Store(c.Context())
	if err != nil {
		return err
	}
	writeStore(c.OutOrStdout(), &control.StoreStatus{
		Origin: st.Origin, Home: st.Home, Username: st.Username, Moving: st.Moving, Objects: st.Objects, Bytes: st.Bytes,
	})
	return nil
}
