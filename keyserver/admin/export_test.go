package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// HandleOne gives octets to the handler of an operator who does nothing.
func HandleOne(name string, body []byte) {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.URL = &url.URL{Path: pathPrefix + name}
	Handler(idle{}).ServeHTTP(httptest.NewRecorder(), r)
}

type idle struct{}

func (idle) Users(context.Context, string, int) ([]keyserver.UserInfo, error)       { return nil, nil }
func (idle) User(context.Context, string) (*keyserver.UserInfo, error)              { return nil, nil }
func (idle) SetQuota(context.Context, string, keyserver.Quota) error                { return nil }
func (idle) EndSessions(context.Context, string, *keyserver.SessionID) (int, error) { return 0, nil }
func (idle) RemoveUser(context.Context, string) error                               { return nil }
func (idle) Export(context.Context, string, io.Writer) error                        { return nil }
func (idle) Invite(context.Context, time.Duration, string) (string, *keyserver.Invitation, error) {
	return "", &keyserver.Invitation{}, nil
}
func (idle) Invitations(context.Context) ([]keyserver.Invitation, error) { return nil, nil }
func (idle) RevokeInvitation(context.Context, string) error              { return nil }
func (idle) Check(context.Context) ([]string, error)                     { return nil, nil }
func (idle) Backup(context.Context, io.Writer) error                     { return nil }
