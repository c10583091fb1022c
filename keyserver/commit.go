package keyserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// checkCommit checks the form of a submission.
func checkCommit(c *keyapi.CommitSubmission) error {
	if len(c.Notice) > 0 {
		return checkNotice(c)
	}
	switch {
	case len(c.Conversation) != len(ConversationID{}):
		return invalid("conversation must have 16 octets")
	case len(c.Group) == 0 || len(c.Group) > keyapi.MaxGroupIDSize:
		return invalid("group must have 1 to 255 octets")
	case len(c.TokenHash) != sha256.Size:
		return invalid("token_hash must have 32 octets")
	case len(c.Token) > keyapi.MaxTokenSize:
		return invalid("token is too long")
	case len(c.Commit) > keyapi.MaxObjectSize || len(c.Welcome) > keyapi.MaxObjectSize:
		return newProblem(http.StatusRequestEntityTooLarge, keyapi.CodeTooLarge, "a Commit or Welcome has at most 16 MiB")
	case len(c.Recipients) > keyapi.MaxRecipients || len(c.Joiners) > keyapi.MaxRecipients:
		return invalid("too many recipients")
	case (len(c.Welcome) == 0) != (len(c.Joiners) == 0):
		return invalid("a Welcome and its joiners go together")
	case len(c.Commit) == 0 && (len(c.Recipients) > 0 || len(c.Welcome) > 0):
		return invalid("nothing is delivered without a Commit")
	case len(c.Commit) == 0 && !c.Create:
		return invalid("commit is missing")
	case c.Create && c.Epoch != 0:
		return invalid("a group is created at epoch 0")
	case !c.Create && len(c.Replaces) > 0:
		return invalid("only a new instance replaces one")
	case c.Epoch == ^uint64(0):
		return invalid("no epoch after this one")
	}
	return checkPeople(c)
}

// checkPeople checks the accounts of a submission, and what they have to do with
// the conversation.
func checkPeople(c *keyapi.CommitSubmission) error {
	for _, list := range [][]keyapi.Account{{c.Sender}, c.Pair, c.Recipients, c.Joiners} {
		for _, a := range list {
			if err := a.Check(); err != nil {
				return invalid(err.Error())
			}
		}
	}
	return checkKind(c)
}

// checkKind recomputes the conversation id of a dialog: nobody but its people
// can name it, and nobody but they are sent its handshakes.
func checkKind(c *keyapi.CommitSubmission) error {
	var id groupid.ID
	switch {
	case c.Kind == keyapi.KindGroup && len(c.Pair) == 0:
		return nil
	case c.Kind == keyapi.KindDialog && len(c.Pair) == 2 && c.Pair[0].Platform == c.Pair[1].Platform && c.Pair[0].ID != c.Pair[1].ID:
		id = groupid.Dialog(c.Pair[0].Platform, c.Pair[0].ID, c.Pair[1].ID)
	case c.Kind == keyapi.KindSelf && len(c.Pair) == 1:
		id = groupid.Self(c.Pair[0].Platform, c.Pair[0].ID)
	default:
		return invalid("kind and pair do not fit")
	}
	if id != groupid.ID(c.Conversation) {
		return forbidden("conversation is not that of the pair")
	}
	if !slices.Contains(c.Pair, c.Sender) {
		return forbidden("sender is none of the pair")
	}
	for _, list := range [][]keyapi.Account{c.Recipients, c.Joiners} {
		for _, a := range list {
			if !slices.Contains(c.Pair, a) {
				return forbidden("a recipient is none of the pair")
			}
		}
	}
	return nil
}

// submit decides about a Commit: one opens each epoch, and only somebody who
// was a member of that epoch can show its token.
func (s *Server) submit(w Writer, u UserID, c *keyapi.CommitSubmission, result *keyapi.TxResult) ([]keyapi.Account, error) {
	if _, err := owned(w, u, c.Sender); err != nil {
		return nil, err
	}
	current, err := w.Conversation(c.Kind, ConversationID(c.Conversation))
	if err != nil {
		return nil, err
	}
	if len(c.Notice) > 0 {
		return s.deliverNotice(w, u, current, c, result)
	}
	next := &Conversation{ID: ConversationID(c.Conversation), Kind: c.Kind, Pair: c.Pair, Group: c.Group, TokenHash: c.TokenHash}
	if c.Create {
		err = mayCreate(w, current, c)
	} else {
		next.Epoch = c.Epoch
		err = mayContinue(w, current, c)
	}
	if err != nil {
		return nil, err
	}
	if len(c.Commit) > 0 {
		next.Epoch++
	}
	result.Epoch = next.Epoch
	if err := w.PutConversation(next); err != nil {
		return nil, err
	}
	return s.deliver(w, u, c, next.Epoch)
}

// mayCreate: a conversation gets its first instance from anybody who may name
// it, and a later one in place of the one that the caller names. In a group the
// caller shows the token of the old instance; in a dialog being one of the pair
// is enough, or someone who lost all state could never talk to the other again.
func mayCreate(r Reader, current *Conversation, c *keyapi.CommitSubmission) error {
	used, err := r.GroupUsed(c.Group)
	switch {
	case err != nil:
		return err
	case current == nil && len(c.Replaces) > 0:
		return notFound(keyapi.CodeNotFound, "the conversation has no instance to replace")
	case current != nil && !bytes.Equal(current.Group, c.Replaces):
		return instanceConflict(current)
	case current != nil && c.Kind == keyapi.KindGroup && !opens(c.Token, current.TokenHash):
		return forbidden("token is not that of the instance's epoch")
	case used:
		return conflict(keyapi.CodeInstanceConflict, "group is registered already")
	}
	return nil
}

func mayContinue(r Reader, current *Conversation, c *keyapi.CommitSubmission) error {
	switch {
	case current == nil:
		return notFound(keyapi.CodeNotFound, "the conversation has no instance")
	case !bytes.Equal(current.Group, c.Group):
		return instanceConflict(current)
	case c.Epoch > current.Epoch:
		return invalid("the epoch has not begun")
	case c.Epoch == current.Epoch && !opens(c.Token, current.TokenHash):
		return forbidden("token is not that of the epoch")
	case c.Epoch == current.Epoch:
		return nil
	}
	p := conflict(keyapi.CodeEpochConflict, "another Commit opened the next epoch")
	p.Instance = current.Instance()
	winner, err := r.DeliveredCommit(c.Sender, c.Group, c.Epoch+1)
	if err != nil {
		return err
	}
	p.Winner = winner // nil once the account has acknowledged it
	return p
}

// instanceConflict tells a dialog's people which group serves it. The id of a
// group conversation is known to its people only.
func instanceConflict(current *Conversation) error {
	p := conflict(keyapi.CodeInstanceConflict, "the conversation has another instance")
	p.Instance = current.Instance()
	return p
}

func opens(token, hash []byte) bool {
	h := sha256.Sum256(token)
	return len(token) > 0 && subtle.ConstantTimeCompare(h[:], hash) == 1
}

// deliver queues the Commit and then the Welcome, each once per account, in
// this order in every inbox.
func (s *Server) deliver(w Writer, u UserID, c *keyapi.CommitSubmission, epoch uint64) ([]keyapi.Account, error) {
	if len(c.Commit) == 0 {
		return nil, nil
	}
	d := keyapi.Delivery{Conversation: c.Conversation, Kind: c.Kind, Group: c.Group, Epoch: epoch, Sender: c.Sender}
	recipients, joiners := unique(c.Recipients), unique(c.Joiners)
	d.Type, d.Message = keyapi.DeliveryCommit, c.Commit
	if err := s.deliverTo(w, u, &d, recipients); err != nil {
		return nil, err
	}
	d.Type, d.Message = keyapi.DeliveryWelcome, c.Welcome
	if err := s.deliverTo(w, u, &d, joiners); err != nil {
		return nil, err
	}
	return append(recipients, joiners...), nil
}

func unique(list []keyapi.Account) []keyapi.Account {
	seen := make(map[keyapi.Account]bool, len(list))
	var out []keyapi.Account
	for _, a := range list {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

func (s *Server) deliverTo(w Writer, u UserID, d *keyapi.Delivery, to []keyapi.Account) error {
	var refused *problem // with all for whom it is the reason
	for _, a := range to {
		err := s.takes(w, u, a, int64(len(d.Message)))
		var p *problem
		switch {
		case err == nil:
			continue
		case !errors.As(err, &p):
			return err
		case refused == nil:
			refused = p
		}
		if p.Code == refused.Code {
			refused.Accounts = append(refused.Accounts, a)
		}
	}
	if refused != nil {
		return refused
	}
	return w.Deliver(d, u, to)
}

// takes tells, by a problem, that an account cannot be delivered to.
func (s *Server) takes(r Reader, u UserID, a keyapi.Account, size int64) error {
	have, err := r.Account(a)
	if err != nil {
		return err
	}
	if have == nil {
		return notFound(keyapi.CodeNoAccount, "nobody has the account "+a.String())
	}
	use, err := r.InboxUsage(a, u)
	if err != nil {
		return err
	}
	return s.fits(&use, have.User == u, size, a)
}

type conversationPath struct {
	Conversation string `path:"conversation"`
}

// instance tells which group serves a conversation. Dialog ids can be guessed,
// so a dialog exists for its people only.
func (s *Server) instance(ctx context.Context, in *conversationPath) (*output[keyapi.Instance], error) {
	u := caller(ctx).user
	var id ConversationID
	if err := id.UnmarshalText([]byte(in.Conversation)); err != nil {
		return nil, invalid("conversation must be 32 hexadecimal digits")
	}
	if wait, ok := s.limits.lookUps.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	var answer *keyapi.Instance
	err := s.Store.View(ctx, func(r Reader) error {
		for _, kind := range []keyapi.Kind{keyapi.KindDialog, keyapi.KindSelf, keyapi.KindGroup} {
			c, err := r.Conversation(kind, id)
			if err != nil {
				return err
			}
			mine, err := maySee(r, u, c)
			if mine {
				answer = c.Instance()
			}
			if mine || err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && answer == nil {
		err = notFound(keyapi.CodeNotFound, "the conversation has no instance")
	}
	if err != nil {
		return nil, err
	}
	return &output[keyapi.Instance]{*answer}, nil
}

func maySee(r Reader, u UserID, c *Conversation) (bool, error) {
	if c == nil {
		return false, nil
	}
	for _, a := range c.Pair {
		have, err := r.Account(a)
		if err != nil || have != nil && have.User == u {
			return err == nil, err
		}
	}
	return c.Kind == keyapi.KindGroup, nil
}
