package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/setup"
	"github.com/cloudmls/gateway/internal/vault"
)

func clientCommand() *cobra.Command {
	c := &cobra.Command{Use: "client", Aliases: []string{"clients"}, Short: "Mail programs that may log in: add, list, revoke", Args: cobra.NoArgs,
		Long: `Every mail program has a password of its own for the gateway: 128 random bits, shown once, of which only the SHA-256 is
kept. Revoking one ends its access and no other's.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(clientAdd(), clientList(), clientRevoke(), clientNew())
	return c
}

func clientAdd() *cobra.Command {
	var file, account, passwordFile string
	c := &cobra.Command{Use: "add NAME", Short: "Make a password for a mail program", Args: cobra.ExactArgs(1),
		Long: `Makes a password for a mail program and shows it, once. It counts at once. A program of that name gets a new password,
and the old one ends.`,
		RunE: func(c *cobra.Command, args []string) error {
			g, a, err := oneAccount(file, nonEmpty(account))
			if err != nil {
				return err
			}
			v, err := openVault(c, g)
			if err != nil {
				return err
			}
			into, err := newSecretFile(passwordFile)
			if err != nil {
				return fmt.Errorf("--password-file: %w", err)
			}
			defer into.drop()
			var password secret.Secret
			if err := v.Update(func(tx *vault.Tx) (err error) {
				password, err = setup.NewClient(tx, a.Address, args[0])
				return err
			}); err != nil {
				return err
			}
			shown := password.RevealString()
			if into != nil {
				if err := into.write(shown); err != nil {
					return err
				}
				shown = "in " + passwordFile
			}
			table(c.OutOrStdout(), []string{"user name", a.Address}, []string{"password", shown},
				[]string{"reading", clientServer(g.Listen.IMAP)}, []string{"sending", clientServer(g.Listen.SMTP)})
			return nil
		}}
	configFlag(c, &file, "the gateway's configuration file")
	accountFlag(c, &account)
	c.Flags().StringVar(&passwordFile, "password-file", "", "write the password into this new file instead of showing it")
	return c
}

func clientList() *cobra.Command {
	var file, account string
	var out output
	c := &cobra.Command{Use: "list", Short: "List the mail programs that may log in", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g, err := loadGateway(file)
			if err != nil {
				return err
			}
			v, err := openVault(c, g)
			if err != nil {
				return err
			}
			type row struct {
				Account string `json:"account"`
				Name    string `json:"name"`
				File    bool   `json:"in_configuration"`
			}
			list := []row{}
			rows := [][]string{{"ACCOUNT", "NAME", ""}}
			for _, a := range g.Accounts {
				if account != "" && account != a.Address {
					continue
				}
				configured, stored, err := device.Clients(v, a)
				if err != nil {
					return err
				}
				for _, n := range configured {
					list = append(list, row{a.Address, n, true})
					rows = append(rows, []string{a.Address, n, "in the configuration file"})
				}
				for _, n := range stored {
					list = append(list, row{a.Address, n, false})
					rows = append(rows, []string{a.Address, n, ""})
				}
			}
			return out.print(c, list, func(w io.Writer) { table(w, rows...) })
		}}
	configFlag(c, &file, "the gateway's configuration file")
	accountFlag(c, &account)
	out.flag(c)
	return c
}

func clientRevoke() *cobra.Command {
	var file, account string
	c := &cobra.Command{Use: "revoke NAME", Short: "End a mail program's access", Args: cobra.ExactArgs(1),
		Long: "Ends a mail program's access: its password does not open a session any more. A session that is open goes on until it ends.",
		RunE: func(c *cobra.Command, args []string) error {
			g, a, err := oneAccount(file, nonEmpty(account))
			if err != nil {
				return err
			}
			v, err := openVault(c, g)
			if err != nil {
				return err
			}
			stored, err := v.Delete(device.ClientSecret(a.Address, args[0]))
			if err != nil {
				return err
			}
			configured := slices.ContainsFunc(a.Clients, func(k config.Client) bool { return k.Name == args[0] })
			if !stored && !configured {
				return fmt.Errorf("%s has no mail program %q; 'cloudmls client list' shows them", a.Address, args[0])
			}
			if configured {
				if err := editConfig(file, config.RemoveClient(a.Address, args[0])); err != nil {
					return err
				}
			}
			fmt.Fprintf(c.OutOrStdout(), "%q cannot log in any more\n", args[0])
			return reloadAfter(c, file, configured)
		}}
	configFlag(c, &file, "the gateway's configuration file")
	accountFlag(c, &account)
	return c
}

func clientNew() *cobra.Command {
	return &cobra.Command{
		Use:   "new NAME",
		Short: "Make a password and print the lines for a configuration file",
		Long: `Makes a password of 128 random bits for one mail client and prints it, once, with the lines for the account's table in
the gateway's configuration: for machines that are set up from files. The file holds its SHA-256 only.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			password, hash, err := secret.NewPassword()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "password: %s\n\n[[accounts.clients]]\nname = %q\npassword_sha256 = %q\n", password.RevealString(), args[0], hash.String())
			return err
		},
	}
}
