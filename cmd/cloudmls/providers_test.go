package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cloudmls/gateway/internal/provider"
)

func TestPasswordRefused(t *testing.T) {
	check := func(p provider.Problem) error {
		return &provider.CheckError{Protocol: "IMAP", Addr: "imap.a.test:993", Problem: p, Err: errors.New("cause")}
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{check(provider.ProblemPassword), true},
		{check(provider.ProblemAppPassword), true},
		{errors.Join(check(provider.ProblemTimeout), check(provider.ProblemPassword)), true},
		{fmt.Errorf("%w; nothing was changed", check(provider.ProblemPassword)), true},
		{errors.Join(check(provider.ProblemTLSAuthority), check(provider.ProblemRefused)), false},
		{check(provider.ProblemOAuth2), false},
		{context.DeadlineExceeded, false},
	} {
		if got := passwordRefused(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
