package keyapi

import (
	"fmt"
	"time"
)

// Problem codes. A client branches on Code, never on Detail.
const (
	CodeInvalid              = "invalid"               // 400: the request breaks a documented rule
	CodeClock                = "clock"                 // 400: Time is too far from the server's clock; Now tells that
	CodeUnauthorized         = "unauthorized"          // 401: no valid token, or wrong name or password
	CodeForbidden            = "forbidden"             // 403: not yours
	CodeVerificationRequired = "verification_required" // 403: the account must be proven first
	CodeNotFound             = "not_found"             // 404: the route's subject does not exist
	CodeNoAccount            = "no_account"            // 404: nobody has this account here
	CodeNoKeyPackage         = "no_key_package"        // 404: account exists, pool empty, no last resort
	CodeTaken                = "taken"                 // 409: user name or account belongs to another user
	CodeConflict             = "conflict"              // 409: a counter differs; Have tells the stored ones
	CodeEpochConflict        = "epoch_conflict"        // 409: the epoch was taken; Instance and Winner tell by what
	CodeInstanceConflict     = "instance_conflict"     // 409: the conversation has an instance already
	CodeKeyReused            = "key_reused"            // 409: the Idempotency-Key was used with another request
	CodeMoved                = "moved"                 // 409: the user's objects are moving, or lie at MovedTo
	CodeTooLarge             = "too_large"             // 413
	CodeRateLimited          = "rate_limited"          // 429, with Retry-After
	CodeUnavailable          = "unavailable"           // 503: try again later
	CodeQuota                = "quota_exceeded"        // 507
	CodeNoRoute              = "no_route"              // 404, 405, 406: no such path, method or media type; says nothing about any subject
	CodeInternal             = "internal"              // 500
)

// Problem is an RFC 9457 problem document (application/problem+json).
type Problem struct {
	Type     string     `json:"type,omitempty"`
	Title    string     `json:"title,omitempty"`
	Status   int        `json:"status"`
	Detail   string     `json:"detail,omitempty"`
	Code     string     `json:"code"`
	Have     []Expect   `json:"have,omitempty"`     // conflict: what the server has for the objects that differ
	Instance *Instance  `json:"current,omitempty"`  // epoch_conflict, instance_conflict
	Winner   *Delivery  `json:"winner,omitempty"`   // epoch_conflict: the Commit that opened the next epoch
	Accounts []Account  `json:"accounts,omitempty"` // no_account, quota_exceeded: recipients who cannot be delivered to
	MovedTo  string     `json:"moved_to,omitempty"` // moved: URL of the store that has the objects; none: not yet known
	Now      *time.Time `json:"now,omitempty"`      // clock: the server's time
}

func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("key server: %s (%d)", p.Code, p.Status)
	}
	return fmt.Sprintf("key server: %s (%d): %s", p.Code, p.Status, p.Detail)
}
