package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/mailproof"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// proofTime is how long the key server's message is waited for.
const proofTime = 5 * time.Minute

// ErrUnproven tells that the key server wants a proof that an account is the
// user's before it may be used.
var ErrUnproven = errors.New("the key server wants a proof that the address is yours")

// Prover gets token1 of a challenge from where the key server has sent it.
type Prover func(ctx context.Context, a config.Account, challenge *cloudmls.Challenge) (token1 []byte, err error)

// AddAccounts makes the configured accounts the user's; repeating it repairs.
// Where the key server wants a proof, prove gets what the answer needs; nil
// leaves the account out, and the error matches ErrUnproven.
func AddAccounts(ctx context.Context, client *cloudmls.Client, g *config.Gateway, prove Prover) error {
	var unproven []error
	for i, a := range g.Accounts {
		account := cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: a.Address}
		err := client.AddAccount(ctx, account)
		if keyclient.IsCode(err, keyapi.CodeVerificationRequired) {
			if err = proveAccount(ctx, client, a, account, prove); errors.Is(err, ErrUnproven) {
				unproven = append(unproven, fmt.Errorf("account %d of the configuration: %w", i+1, err))
				continue // the others may be proven
			}
		}
		if err != nil {
			return fmt.Errorf("add account %d of the configuration: %w", i+1, err) // the log names no addresses
		}
	}
	return errors.Join(unproven...)
}

func proveAccount(ctx context.Context, client *cloudmls.Client, a config.Account, account cloudmls.Account, prove Prover) error {
	if prove == nil {
		return ErrUnproven
	}
	challenge, err := client.StartProof(ctx, account)
	if err != nil {
		return err
	}
	token1, err := prove(ctx, a, challenge)
	if err != nil {
		return fmt.Errorf("%w: %w (run this again, or type the code of that message: 'cloudmls account prove')", ErrUnproven, err)
	}
	return client.AnswerProof(ctx, account, challenge.ID, token1)
}

// MailProver answers challenges by itself: it waits for the key server's
// message in the user's own mailbox.
type MailProver struct {
	Origin string // of the key server
	// Password gives the provider's password for IMAP.
	Password func(ctx context.Context, a config.Account) (secret.Secret, error)
	Progress func(format string, args ...any)
	// LookupTXT asks DNS for the key server's key of signatures; nil: the system's resolver.
	LookupTXT func(domain string) ([]string, error)
}

// Prove implements Prover.
func (m *MailProver) Prove(ctx context.Context, a config.Account, challenge *cloudmls.Challenge) ([]byte, error) {
	password, err := m.Password(ctx, a)
	if err != nil {
		return nil, err
	}
	trust, err := Trust(a.IMAP.CAFile)
	if err != nil {
		return nil, err
	}
	box := &mailproof.Mailbox{
		Addr: net.JoinHostPort(a.IMAP.Host, strconv.Itoa(a.IMAP.Port)), TLS: a.IMAP.TLS, Config: trust,
		Username: a.IMAP.Username, Password: password.RevealString(),
	}
	if box.Username == "" {
		box.Username = a.Address
	}
	m.Progress("waiting for the key server's message in the mailbox of %s, up to %d minutes ...", a.Address, int(proofTime.Minutes()))
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	return mailproof.Find(ctx, box, &mailproof.Expected{Origin: m.Origin, Address: a.Address, ID: challenge.ID, LookupTXT: m.LookupTXT, Now: time.Now})
}

// ProveByCode answers the challenge that is under way for an account with the
// code that a person read in the key server's message.
func ProveByCode(ctx context.Context, client *cloudmls.Client, address, code string) error {
	token, err := keyapi.ProofCode(code)
	if err != nil {
		return err
	}
	account := cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: address}
	challenge, err := client.Challenged(account)
	if err != nil {
		return err
	}
	if challenge == nil {
		return errors.New("no proof is under way for this address: run 'cloudmls account prove' without a code first")
	}
	return client.AnswerProof(ctx, account, challenge.ID, token)
}
