package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/admin"
)

// adminSocketName is the socket's name beside the database file.
const adminSocketName = "admin.sock"

func adminSocket(f *config.KeyServerFile) string {
	return filepath.Join(filepath.Dir(f.DataFile), adminSocketName)
}

func keyServerAdmin() *cobra.Command {
	c := &cobra.Command{Use: "admin", Short: "Users, quotas, invitations, sessions, backup and check of a key server", Args: cobra.NoArgs,
		Long: `What an operator does with a key server. A server on one file is asked over a socket beside the file while it runs, and
its file is opened otherwise; run these commands as the server's user or as root. With PostgreSQL they go to the database.

` + aboutNames,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.PersistentFlags().StringP("config", "c", "", "the key server's configuration file (required)")
	c.AddCommand(adminReady(), adminUsers(), adminUser(), adminQuota(), adminSessions(), adminExport(), adminDelete(),
		adminInvite(), adminInvitations(), adminCheck(), adminBackup(), adminRestore(), adminCompact())
	return c
}

// adminCommand is a command that asks the operator's side of a key server.
func adminCommand(use, short string, args cobra.PositionalArgs, run func(c *cobra.Command, o admin.Operator, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(c *cobra.Command, args []string) error {
		f, err := adminConfig(c)
		if err != nil {
			return err
		}
		o, done, err := openOperator(c, f)
		if err != nil {
			return err
		}
		return errors.Join(run(c, o, args), done())
	}}
}

// aboutNames is the help on the argument NAME.
const aboutNames = `A server without the role auth ('roles' in its configuration) knows no names: there NAME is the user's id, 32 hexadecimal
digits, which 'admin users' shows at the server that has this role.`

// withNames adds what NAME is to the help of a command about one user.
func withNames(c *cobra.Command, more ...string) *cobra.Command {
	c.Long = strings.Join(append(append([]string{c.Short + "."}, more...), "", aboutNames), "\n")
	return c
}

// calls is how a user is spoken of.
func calls(u *keyserver.UserInfo) string {
	if u.Name == "" {
		return u.ID.String()
	}
	return u.Name
}

func adminConfig(c *cobra.Command) (*config.KeyServerFile, error) {
	name, err := c.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, misuse{errors.New("--config is missing")}
	}
	f, err := config.LoadKeyServer(name)
	if err != nil {
		return nil, configError{err}
	}
	return f, nil
}

// openOperator asks the running server, or opens the store in this process.
func openOperator(c *cobra.Command, f *config.KeyServerFile) (admin.Operator, func() error, error) {
	if f.Store.Kind == "file" {
		conn, err := control.ConnectAsOperator(c.Context(), adminSocket(f))
		if err == nil {
			client := admin.NewClient(func(ctx context.Context) (net.Conn, error) { return control.ConnectAsOperator(ctx, adminSocket(f)) })
			return client, client.Close, conn.Close()
		}
		if !errors.Is(err, control.ErrNotRunning) {
			return nil, nil, err
		}
	}
	return ownOperator(c, f)
}

func ownOperator(c *cobra.Command, f *config.KeyServerFile) (_ admin.Operator, done func() error, err error) {
	if err := storeIsThere(f); err != nil {
		return nil, nil, err
	}
	log := newLogger(c.ErrOrStderr(), config.Log{Level: "warn", Format: "text"})
	o, err := keyServerOptions(f, log)
	if err != nil {
		return nil, nil, err
	}
	store, err := openKeyStore(c.Context(), f, log)
	if err != nil {
		return nil, nil, err
	}
	o.Store = store
	s, err := keyserver.New(*o)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return &admin.Service{Server: s, Store: store}, func() error { return errors.Join(s.Close(), store.Close()) }, nil
}

func adminUsers() *cobra.Command {
	var out output
	c := adminCommand("users", "List all users", cobra.NoArgs, func(c *cobra.Command, o admin.Operator, _ []string) error {
		const page = 500
		list := []keyserver.UserInfo{}
		for after := ""; ; {
			next, err := o.Users(c.Context(), after, page)
			if err != nil {
				return err
			}
			list = append(list, next...)
			if len(next) < page {
				break
			}
			after = next[page-1].Name
		}
		return out.print(c, list, func(w io.Writer) {
			rows := [][]string{{"USER", "SINCE", "OBJECTS", "BYTES", "ID"}}
			for _, u := range list {
				rows = append(rows, []string{u.Name, day(u.Created), strconv.Itoa(u.Objects), strconv.FormatInt(u.Bytes, 10), u.ID.String()})
			}
			table(w, rows...)
		})
	})
	out.flag(c)
	return c
}

func adminUser() *cobra.Command {
	var out output
	c := adminCommand("user NAME", "Show a user with accounts and devices", cobra.ExactArgs(1), func(c *cobra.Command, o admin.Operator, args []string) error {
		u, err := o.User(c.Context(), args[0])
		if err != nil {
			return err
		}
		return out.print(c, u, func(w io.Writer) { writeUser(w, u) })
	})
	out.flag(c)
	return withNames(c)
}

func writeUser(w io.Writer, u *keyserver.UserInfo) {
	rows := [][]string{{"id", u.ID.String()}}
	if u.Name != "" {
		rows = [][]string{{"user", u.Name}, {"since", day(u.Created)}, rows[0]}
	}
	table(w, append(rows, []string{"objects", fmt.Sprintf("%d of %d", u.Objects, u.Quota.Objects)},
		[]string{"bytes", fmt.Sprintf("%d of %d", u.Bytes, u.Quota.Bytes)})...)
	if len(u.Accounts) > 0 {
		rows := [][]string{{"ACCOUNT", "PROOF", "SINCE", "WAITING"}}
		for _, a := range u.Accounts {
			proof := "none"
			if a.ProofLevel > 0 {
				proof = "level " + strconv.Itoa(a.ProofLevel)
			}
			rows = append(rows, []string{a.Account.Platform + " " + plainText(a.Account.ID), proof, day(a.Created), strconv.Itoa(a.Waiting)})
		}
		fmt.Fprintln(w)
		table(w, rows...)
	}
	if len(u.Sessions) > 0 {
		rows := [][]string{{"SESSION", "DEVICE", "SINCE", "USED"}}
		for _, s := range u.Sessions {
			id, err := s.ID.MarshalText()
			if err != nil {
				id = []byte("?")
			}
			rows = append(rows, []string{string(id), plainText(s.Device), day(s.Created), day(s.Used)})
		}
		fmt.Fprintln(w)
		table(w, rows...)
	}
}

func adminQuota() *cobra.Command {
	var q keyserver.Quota
	c := adminCommand("quota NAME", "Let a user store more than others", cobra.ExactArgs(1), func(c *cobra.Command, o admin.Operator, args []string) error {
		if err := o.SetQuota(c.Context(), args[0], q); err != nil {
			return err
		}
		u, err := o.User(c.Context(), args[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s may store %d objects of %d bytes together\n", calls(u), u.Quota.Objects, u.Quota.Bytes)
		return nil
	})
	c.Flags().IntVar(&q.Objects, "objects", 0, "sealed objects; 0 means as everybody")
	c.Flags().Int64Var(&q.Bytes, "bytes", 0, "octets of these objects; 0 means as everybody")
	return withNames(c, "Sets what one user may store beyond the limits of the configuration. Without flags the user has these again.",
		"Objects lie at the server with the role store.")
}

func adminSessions() *cobra.Command {
	var one string
	c := adminCommand("sign-out NAME", "End the sessions of a user's devices at once", cobra.ExactArgs(1), func(c *cobra.Command, o admin.Operator, args []string) error {
		var session *keyserver.SessionID
		if one != "" {
			session = new(keyserver.SessionID)
			if err := session.UnmarshalText([]byte(one)); err != nil {
				return misuse{fmt.Errorf("--session: %w", err)}
			}
		}
		n, err := o.EndSessions(c.Context(), args[0], session)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%d sessions ended; their devices ask for the password\n", n)
		return nil
	})
	c.Flags().StringVar(&one, "session", "", "end this one alone; 'admin user' lists them")
	c.Long = c.Short + ". Sessions are at the server with the role auth; others hear of it within five seconds."
	return c
}

func adminExport() *cobra.Command {
	c := adminCommand("export NAME FILE", "Write everything that is kept of a user into a new file", cobra.ExactArgs(2), func(c *cobra.Command, o admin.Operator, args []string) error {
		err := intoNewFile(args[1], func(w io.Writer) error { return o.Export(c.Context(), args[0], w) })
		if err == nil {
			fmt.Fprintf(c.OutOrStdout(), "everything that is kept of %s is in %s, one JSON value a line\n", args[0], args[1])
		}
		return err
	})
	return withNames(c, "Where the roles are apart, each server has its own part.")
}

func adminDelete() *cobra.Command {
	var yes bool
	c := adminCommand("delete NAME", "Delete a user and everything that is kept of them", cobra.ExactArgs(1), func(c *cobra.Command, o admin.Operator, args []string) error {
		u, err := o.User(c.Context(), args[0])
		if err != nil {
			return err
		}
		if !yes {
			return misuse{fmt.Errorf("%s has %d accounts and %d objects, and nothing brings them back; say so with --yes ('admin export' writes them into a file)", calls(u), len(u.Accounts), u.Objects)}
		}
		if err := o.RemoveUser(c.Context(), args[0]); err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is deleted\n", calls(u))
		return nil
	})
	c.Flags().BoolVar(&yes, "yes", false, "really")
	return withNames(c, "Where the roles are apart, each server has its own part: begin with the one that has the role auth, so that nobody",
		"can sign in and put anything there again, and go on with the others five seconds later.")
}

func adminInvite() *cobra.Command {
	var days int
	var comment string
	var out output
	c := adminCommand("invite", "Make an invitation code, with which one person can register", cobra.NoArgs, func(c *cobra.Command, o admin.Operator, _ []string) error {
		code, i, err := o.Invite(c.Context(), time.Duration(days)*24*time.Hour, comment)
		if err != nil {
			return err
		}
		answer := struct {
			Code    string    `json:"code"`
			ID      string    `json:"id"`
			Expires time.Time `json:"expires"`
		}{code, i.ID, i.Expires}
		return out.print(c, answer, func(w io.Writer) {
			fmt.Fprintf(w, "invitation: %s\nIt serves once, until %s. The person names it to 'cloudmls setup'.\n", code, day(i.Expires))
		})
	})
	c.Flags().IntVar(&days, "days", 14, "how long it is valid")
	c.Flags().StringVar(&comment, "comment", "", "whom it is for, as you like")
	out.flag(c)
	return c
}

func adminInvitations() *cobra.Command {
	var revoke string
	var out output
	c := adminCommand("invitations", "List the invitations that can be used still, or revoke one", cobra.NoArgs, func(c *cobra.Command, o admin.Operator, _ []string) error {
		if revoke != "" {
			return o.RevokeInvitation(c.Context(), revoke)
		}
		list, err := o.Invitations(c.Context())
		if err != nil {
			return err
		}
		return out.print(c, list, func(w io.Writer) {
			rows := [][]string{{"ID", "SINCE", "UNTIL", "COMMENT"}}
			for _, i := range list {
				rows = append(rows, []string{i.ID, day(i.Created), day(i.Expires), plainText(i.Comment)})
			}
			table(w, rows...)
		})
	})
	c.Flags().StringVar(&revoke, "revoke", "", "id of an invitation that shall not serve any more")
	out.flag(c)
	return c
}

func adminCheck() *cobra.Command {
	return adminCommand("check", "Read everything that is stored and say what is wrong", cobra.NoArgs, func(c *cobra.Command, o admin.Operator, _ []string) error {
		fmt.Fprintln(c.ErrOrStderr(), "reading everything ...")
		findings, err := o.Check(c.Context())
		if err != nil {
			return err
		}
		if len(findings) > 0 {
			return fmt.Errorf("the store is damaged (restore a backup, or ask for help with this list):\n  %s", strings.Join(findings, "\n  "))
		}
		fmt.Fprintln(c.OutOrStdout(), "the store is sound")
		return nil
	})
}

// adminReady is for supervisors without a client for HTTP.
func adminReady() *cobra.Command {
	return &cobra.Command{Use: "ready", Short: "Ask the running server whether it is ready; exit code 0 if it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := adminConfig(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
			defer cancel()
			return askReady(ctx, f, c.OutOrStdout())
		}}
}

func askReady(ctx context.Context, f *config.KeyServerFile, to io.Writer) error {
	host, port, err := net.SplitHostPort(f.Listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	client, scheme := localClient(f)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("the key server does not answer: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", plainText(strings.TrimSpace(string(b))))
	}
	_, err = fmt.Fprintln(to, "ready")
	return err
}
