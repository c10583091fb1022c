package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

const (
	pathPrefix = "/v1/"
	// complete is the trailer of octets that are whole.
	complete = "Cloudmls-Complete"

	maxRequest = 64 << 10
	maxAnswer  = 64 << 20
)

// request is that of every operation; each reads the members that it needs.
type request struct {
	Name     string               `json:"name,omitempty"`
	After    string               `json:"after,omitempty"`
	Limit    int                  `json:"limit,omitempty"`
	Quota    *keyserver.Quota     `json:"quota,omitempty"`
	Session  *keyserver.SessionID `json:"session,omitempty"`
	Lifetime time.Duration        `json:"lifetime,omitempty"`
	Comment  string               `json:"comment,omitempty"`
	ID       string               `json:"id,omitempty"`
}

// invited is the answer to invite.
type invited struct {
	Code    string    `json:"code"`
	ID      string    `json:"id"`
	Comment string    `json:"comment"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

func toInvited(code string, i *keyserver.Invitation) invited {
	return invited{code, i.ID, i.Comment, i.Created, i.Expires}
}

func (i invited) invitation() keyserver.Invitation {
	return keyserver.Invitation{ID: i.ID, Comment: i.Comment, Created: i.Created, Expires: i.Expires}
}

// failure is the body of an error.
type failure struct {
	Error string `json:"error"`
	// NoUser and NoBackup let the client give the same errors as the service.
	NoUser   bool `json:"no_user,omitempty"`
	NoBackup bool `json:"no_backup,omitempty"`
}

func toFailure(err error) failure {
	return failure{err.Error(), errors.Is(err, keyserver.ErrNoUser), errors.Is(err, ErrNoBackup)}
}

func (f failure) err() error {
	switch {
	case f.NoUser:
		return &told{f.Error, keyserver.ErrNoUser}
	case f.NoBackup:
		return &told{f.Error, ErrNoBackup}
	case f.Error == "":
		return errors.New("the key server refused without a reason")
	}
	return errors.New(f.Error)
}

// told is an error that another process gave.
type told struct {
	text string
	is   error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.is }

// decode reads one JSON value and nothing behind it.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("malformed: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("malformed: something follows the value")
	}
	return nil
}
