package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxRedirects bounds how often a web server may point elsewhere.
const maxRedirects = 3

// web fetches autoconfig files.
type web struct {
	client *http.Client
	scheme string
}

// newWeb copies a client and takes its freedom: no cookies, few redirects, and
// none that leaves the scheme.
func newWeb(client *http.Client, scheme string) *web {
	if client == nil {
		client = &http.Client{Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxAutoconfig,
		}}
	}
	own := *client
	own.Jar = nil
	own.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		r.Header.Del("Referer") // it may hold the address
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		if r.URL.Scheme != "https" && r.URL.Scheme != scheme {
			return fmt.Errorf("redirect to %s refused", r.URL.Scheme)
		}
		return nil
	}
	return &web{client: &own, scheme: scheme}
}

// autoconfig fetches and applies the file at host/path. The address itself is
// sent only where tell is set, and only after an answer without was of no use.
func (w *web) autoconfig(ctx context.Context, a address, host, path string, tell bool) (*Settings, error) {
	u := url.URL{Scheme: w.scheme, Host: host, Path: path}
	source := "autoconfig at " + host
	s, err := w.fetch(ctx, a, u, source)
	if err == nil && s.complete() || !tell || !isAnswer(err) {
		return s, err
	}
	u.RawQuery = url.Values{"emailaddress": {a.whole}}.Encode()
	if again, err2 := w.fetch(ctx, a, u, source); again != nil && (err2 == nil || s == nil) {
		return again, err2
	}
	return s, err
}

// answerError is an answer that is of no use, where another question may get
// a better one.
type answerError struct{ err error }

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

func isAnswer(err error) bool {
	var e *answerError
	return errors.As(err, &e)
}

func (w *web) fetch(ctx context.Context, a address, u url.URL, source string) (*Settings, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "CloudMLS-Gateway")
	r.Header.Set("Accept", "application/xml, text/xml")
	answer, err := w.client.Do(r)
	if err != nil {
		// Without the URL, which may hold the address.
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, &answerError{fmt.Errorf("the web server answered %d", answer.StatusCode)}
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAutoconfig+1))
	if err != nil {
		return nil, err
	}
	config, err := parseAutoconfig(b)
	if err != nil {
		return nil, &answerError{err}
	}
	s, err := config.settings(a, source)
	if err != nil {
		err = &answerError{err}
	}
	return s, err
}
