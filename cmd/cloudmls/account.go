package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/vault"
)

func accountCommand() *cobra.Command {
	c := &cobra.Command{Use: "account", Aliases: []string{"accounts"}, Short: "Your mail accounts: list them, change a password or a policy, remove one", Args: cobra.NoArgs,
		Long: "Your mail accounts. 'cloudmls setup --address ADDRESS' adds one.",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(accountList(), accountPassword(), accountPolicy(), accountProve(), accountRemove())
	return c
}

func accountList() *cobra.Command {
	var file string
	var out output
	c := &cobra.Command{Use: "list", Short: "List the accounts of the configuration", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g, err := loadGateway(file)
			if err != nil {
				return err
			}
			type row struct {
				Address string `json:"address"`
				Policy  string `json:"policy"`
				IMAP    string `json:"imap"`
				SMTP    string `json:"smtp"`
			}
			list := []row{}
			rows := [][]string{{"ADDRESS", "POLICY", "READING", "SENDING"}}
			for _, a := range g.Accounts {
				r := row{a.Address, a.Policy, fmt.Sprintf("%s:%d", a.IMAP.Host, a.IMAP.Port), fmt.Sprintf("%s:%d", a.SMTP.Host, a.SMTP.Port)}
				list = append(list, r)
				rows = append(rows, []string{r.Address, r.Policy, r.IMAP, r.SMTP})
			}
			return out.print(c, list, func(w io.Writer) { table(w, rows...) })
		}}
	configFlag(c, &file, "the gateway's configuration file")
	out.flag(c)
	return c
}

func accountPassword() *cobra.Command {
	var file string
	var from, sending secretSource
	var unchecked bool
	c := &cobra.Command{Use: "password [ADDRESS]", Short: "Store the provider's password of an account anew", Args: cobra.MaximumNArgs(1),
		Long: `Stores the password that the mail provider wants, after checking it there. The running gateway uses it from the next
connection on. (The password of the mail client is another one: 'cloudmls client'.)`,
		RunE: func(c *cobra.Command, args []string) error {
			g, a, err := oneAccount(file, args)
			if err != nil {
				return err
			}
			in, t := newStdinLines(c.InOrStdin()), newTerminal(c)
			imap, err := oneSecret(in, from, "password of "+a.Address+" at the mail provider", t.Secret)
			if err != nil {
				return err
			}
			smtp := imap
			if sending.given() {
				if smtp, err = sending.read(in); err != nil {
					return err
				}
			}
			if !unchecked {
				fmt.Fprintf(c.ErrOrStderr(), "checking the login at %s and %s ...\n", a.IMAP.Host, a.SMTP.Host)
				if err := checkProvider(c.Context(), *a, imap, smtp); err != nil {
					return fmt.Errorf("%w; the stored password stays (--unchecked stores it all the same)", err)
				}
			}
			return storeProviderPassword(c, g, a, file, imap, smtp)
		}}
	configFlag(c, &file, "the gateway's configuration file")
	from.flags(c, "password", "the password")
	sending.flags(c, "smtp-password", "the password for sending, if the provider wants another one")
	c.Flags().BoolVar(&unchecked, "unchecked", false, "store it without asking the provider")
	return c
}

func storeProviderPassword(c *cobra.Command, g *config.Gateway, a *config.Account, file string, imap, smtp secret.Secret) error {
	v, err := openVault(c, g)
	if err != nil {
		return err
	}
	if err := v.Update(func(tx *vault.Tx) error {
		return errors.Join(tx.Set(device.ProviderSecret(a.Address, device.IMAP), imap), tx.Set(device.ProviderSecret(a.Address, device.SMTP), smtp))
	}); err != nil {
		return err
	}
	var changes []config.Change
	for key, p := range map[string]config.Provider{"imap": a.IMAP, "smtp": a.SMTP} {
		if p.PasswordFile != "" || p.PasswordEnv != "" { // else the file's would count
			changes = append(changes, config.UnsetAccount(a.Address, key, "password_file"), config.UnsetAccount(a.Address, key, "password_env"))
		}
	}
	if err := editConfig(file, changes...); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "stored the password of %s\n", a.Address)
	return reloadAfter(c, file, len(changes) > 0)
}

func accountPolicy() *cobra.Command {
	var file, account, to string
	c := &cobra.Command{Use: "policy {prefer|require|never|default}", Short: "Say when an account's mail is encrypted", ValidArgs: []string{"prefer", "require", "never", "default"},
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Long: `Says when mail is encrypted: for the whole account, or with --to for one person or domain.

  prefer   encrypt to everyone who can read it; in clear only to people whom the key server does not know and who were
           never written to encrypted
  require  never send in clear
  never    send in clear (people who were written to encrypted before stay encrypted, unless --to names them)
  default  take the rule for --to back`,
		RunE: func(c *cobra.Command, args []string) error {
			_, a, err := oneAccount(file, nonEmpty(account))
			if err != nil {
				return err
			}
			change, err := policyChange(a.Address, to, args[0])
			if err != nil {
				return err
			}
			if err := editConfig(file, change); err != nil {
				return err
			}
			who := "mail of " + a.Address
			if to != "" {
				who += " to " + to
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", who, args[0])
			return reloadAfter(c, file, true)
		}}
	configFlag(c, &file, "the gateway's configuration file")
	accountFlag(c, &account)
	c.Flags().StringVar(&to, "to", "", "a person's address, or a domain such as @example.net")
	return c
}

func policyChange(address, to, mode string) (config.Change, error) {
	key := []string{"policy"}
	switch {
	case to == "" && mode == "default":
		return config.UnsetAccount(address, "policy"), nil
	case strings.HasPrefix(to, "@"):
		key = []string{"domains", to[1:]}
	case strings.Contains(to, "@"):
		key = []string{"recipients", to}
	case to != "":
		return config.Change{}, misuse{fmt.Errorf("--to %q: an address such as bob@example.net, or a domain such as @example.net", to)}
	}
	if mode == "default" {
		return config.UnsetAccount(address, key...), nil
	}
	return config.SetAccount(address, mode, key...), nil
}

func accountRemove() *cobra.Command {
	var file string
	var yes bool
	c := &cobra.Command{Use: "remove ADDRESS", Short: "Take an account off this device", Args: cobra.ExactArgs(1),
		Long: `Takes an account off this device: out of the configuration, and its passwords out of the vault. Its mail stays at the
provider, and its keys and conversations at the key server: 'cloudmls setup --address ADDRESS' brings it back.`,
		RunE: func(c *cobra.Command, args []string) error {
			g, a, err := oneAccount(file, args)
			if err != nil {
				return err
			}
			if len(g.Accounts) == 1 {
				return fmt.Errorf("%s is the only account of this gateway; without one there is nothing to run", a.Address)
			}
			if !yes {
				sure, err := newTerminal(c).Confirm("Take "+a.Address+" off this device", false)
				if err != nil {
					return fmt.Errorf("%w; --yes answers it", err)
				}
				if !sure {
					return errors.New("nothing was changed")
				}
			}
			if err := editConfig(file, config.RemoveAccount(a.Address)); err != nil {
				return err
			}
			if err := reloadAfter(c, file, true); err != nil {
				return err
			}
			v, err := openVault(c, g)
			if err != nil {
				return err
			}
			if err := v.Update(func(tx *vault.Tx) error {
				for _, n := range append(tx.Names(device.ProviderSecret(a.Address, "")), tx.Names(device.ClientSecret(a.Address, ""))...) {
					tx.Delete(n)
				}
				return nil
			}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is off this device\n", a.Address)
			return err
		}}
	configFlag(c, &file, "the gateway's configuration file")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// oneAccount loads the configuration and finds the account of args, or the only
// one.
func oneAccount(file string, args []string) (*config.Gateway, *config.Account, error) {
	g, err := loadGateway(file)
	if err != nil {
		return nil, nil, err
	}
	address := ""
	if len(args) > 0 {
		address = args[0]
	}
	a, err := chooseAccount(g, address)
	return g, a, err
}

// editConfig changes the configuration file and leaves the rest of it alone.
func editConfig(file string, changes ...config.Change) error {
	if len(changes) == 0 {
		return nil
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := config.EditGateway(old, changes...)
	if err != nil || bytes.Equal(text, old) {
		return err
	}
	return config.WriteFile(file, old, text)
}

func openVault(c *cobra.Command, g *config.Gateway) (*vault.Vault, error) {
	return device.OpenVault(g, device.Options{Passphrase: passphrase(c, g)})
}
