// Package keyclient speaks the HTTP API of a CloudMLS key server (package
// keyapi), one method a route.
//
// A Client keeps no tokens, never retries and follows no redirects: sessions
// and repetition belong to the caller. A method that fails returns a
// *keyapi.Problem when, and only when, the key server itself answered with a
// problem document whose code is known. Everything else, be it a dead network,
// a proxy's 404 page, a 500, truncated or senseless JSON, is an error matched
// by ErrUnavailable and says nothing about what exists on the server.
//
//	c, err := keyclient.New(keyclient.Options{URL: "https://keys.example.org"})
//	...
//	s, err := c.Login(ctx, keyapi.LoginRequest{...})
//	...
//	index, err := c.ObjectIndex(ctx, s.AccessToken)
package keyclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultTimeout bounds one call, connecting included. A long-poll gets its
// waiting time on top.
const DefaultTimeout = 60 * time.Second

// Options of New. Only URL is required.
type Options struct {
	// URL of the key server, without /v1. Plain http is accepted for loopback
	// addresses only.
	URL string
	// DeliveryURL and StoreURL name the servers that have these roles, where
	// they are others than URL, which signs in.
	DeliveryURL, StoreURL string
	// StoreToken gives the access token for a store with a login of its own;
	// nil: the store takes the token that each call is given. It is called for
	// each request to the store and may be called concurrently.
	StoreToken func(context.Context) (string, error)
	// CBOR sends and asks for CBOR instead of JSON: octets are not written in
	// base64, a quarter less on the wire.
	CBOR bool
	// HTTPClient makes the requests; nil means one with its own connection
	// pool. Its CheckRedirect and Timeout are not used.
	HTTPClient *http.Client
	// Timeout of one call; zero means DefaultTimeout.
	Timeout time.Duration
}

// Client is safe for concurrent use.
type Client struct {
	base, delivery, store string
	storeToken            func(context.Context) (string, error)
	encoding              encoding
	http                  *http.Client
	timeout               time.Duration
}

// New checks the options; it does not connect.
func New(o Options) (*Client, error) {
	c := &Client{timeout: o.Timeout, storeToken: o.StoreToken, encoding: jsonEncoding()}
	var err error
	if c.base, err = checkURL(o.URL); err != nil {
		return nil, err
	}
	c.delivery, c.store = c.base, c.base
	if o.DeliveryURL != "" {
		if c.delivery, err = checkURL(o.DeliveryURL); err != nil {
			return nil, fmt.Errorf("delivery: %w", err)
		}
	}
	if o.StoreURL != "" {
		if c.store, err = checkURL(o.StoreURL); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	if o.CBOR {
		if c.encoding, err = cborEncoding(); err != nil {
			return nil, err
		}
	}
	h := http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if o.HTTPClient != nil {
		h = *o.HTTPClient
	}
	h.Timeout = 0
	h.Jar = nil
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &h
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	return c, nil
}

func checkURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("key server URL: %w", err)
	}
	switch {
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("key server URL: want scheme, host and nothing but a path")
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	case u.Scheme == "http":
		return "", errors.New("key server URL: plain http is for loopback addresses only")
	default:
		return "", fmt.Errorf("key server URL: scheme %q", u.Scheme)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Close drops idle connections. Calls under way are not affected.
func (c *Client) Close() { c.http.CloseIdleConnections() }
