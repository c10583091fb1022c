package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/proxy"
)

// failed makes an error one that says what is wrong and what to do.
func (s *service) failed(err error) error {
	var known *control.Error
	if errors.As(err, &known) {
		return known
	}
	e := describe(err)
	e.Err = err
	s.o.Logger.Debug("command failed", "code", e.Code, "err", err)
	return e
}

func describe(err error) *control.Error {
	var queued *proxy.QueuedError
	var changed *cloudmls.IdentityChangedError
	var missing *cloudmls.MissingKeyPackagesError
	var rollback *cloudmls.RollbackError
	switch {
	case errors.As(err, &queued):
		return &control.Error{Code: control.CodeConflict, Message: queued.Error(), Hint: "'cloudmls status' shows what waits and why"}
	case errors.Is(err, proxy.ErrStopped):
		return &control.Error{Code: control.CodeNotRunning, Message: "the gateway is stopping", Hint: "start it: cloudmls run"}
	case errors.Is(err, cloudmls.ErrNoAccount), errors.Is(err, proxy.ErrNotServed):
		return &control.Error{Code: control.CodeNotFound, Message: "this account is not yours here", Hint: "'cloudmls status' lists your accounts"}
	case errors.Is(err, cloudmls.ErrNoConversation):
		return &control.Error{Code: control.CodeNotFound, Message: "no such conversation", Hint: "'cloudmls conversation list' shows them with their ids"}
	case errors.Is(err, cloudmls.ErrNoContact):
		return &control.Error{Code: control.CodeNotFound, Message: "nothing is known of this address, and the key server has no such account", Hint: "check the spelling"}
	case errors.Is(err, cloudmls.ErrCodeForm):
		return &control.Error{Code: control.CodeInvalid, Message: err.Error(), Hint: "type the 60 digits as the other person reads them"}
	case errors.Is(err, cloudmls.ErrCodeMismatch):
		return &control.Error{Code: control.CodeMismatch, Message: "the codes differ; nothing was marked as verified",
			Hint: "compare once more; if they stay different, somebody may sit in between: send nothing confidential"}
	case errors.Is(err, cloudmls.ErrMoving):
		return &control.Error{Code: control.CodeConflict, Message: "your sealed state is moving to another store; nothing was changed",
			Hint: "'cloudmls store status' shows the move; try again when it is done"}
	case errors.Is(err, cloudmls.ErrStoreLogin):
		return &control.Error{Code: control.CodeDenied, Message: err.Error(), Hint: "ask whoever operates your store whether your user is still there"}
	case errors.Is(err, cloudmls.ErrCredentials):
		return &control.Error{Code: control.CodeDenied, Message: "the password is wrong"}
	case errors.Is(err, cloudmls.ErrPassword):
		return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	case errors.As(err, &changed) && changed.Retired:
		return &control.Error{Code: control.CodeConflict, Message: changed.Account.ID + " replaced the identity key, and the conversation shows the one before",
			Hint: "a device of theirs renews it when it is online; else write to them alone again an hour later, or remove them from a group: cloudmls conversation remove ID " + changed.Account.ID}
	case errors.As(err, &changed) && changed.Settled:
		return &control.Error{Code: control.CodeConflict, Message: "the conversation shows a key of " + changed.Account.ID + " that was found not to be theirs",
			Hint: "remove them from it: cloudmls conversation remove ID " + changed.Account.ID + "; whoever writes to them then adds them with their own key"}
	case errors.As(err, &changed):
		return &control.Error{Code: control.CodeConflict, Message: "the identity key of " + changed.Account.ID + " changed",
			Hint: "compare: cloudmls contact code " + changed.Account.ID}
	case errors.As(err, &missing):
		return &control.Error{Code: control.CodeConflict, Message: missing.Error(), Hint: "they have to go online once"}
	case errors.As(err, &rollback):
		return &control.Error{Code: control.CodeConflict, Message: "the key server shows an older state than this device has seen; nothing is sent any more",
			Hint: "ask whoever runs the key server whether it was restored from a backup"}
	case errors.Is(err, cloudmls.ErrSignedOut), errors.Is(err, cloudmls.ErrClosed), errors.Is(err, cloudmls.ErrNewDevice):
		return &control.Error{Code: control.CodeUnavailable, Message: "this device is signed out of the key server", Hint: "sign in again with the gateway ended: cloudmls setup --sign-in"}
	case errors.Is(err, cloudmls.ErrNotMember), errors.Is(err, cloudmls.ErrBroken), errors.Is(err, cloudmls.ErrBusy),
		errors.Is(err, cloudmls.ErrConversationTaken), errors.Is(err, cloudmls.ErrExhausted):
		return &control.Error{Code: control.CodeConflict, Message: err.Error()}
	case unreachable(err):
		return &control.Error{Code: control.CodeUnavailable, Message: fmt.Sprintf("the key server could not be asked: %v", err), Hint: "try again when it answers"}
	}
	return &control.Error{Code: control.CodeInternal, Message: err.Error()}
}

func unreachable(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) // it hung up
}
