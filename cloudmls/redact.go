package cloudmls

import (
	"fmt"
	"io"
	"log/slog"
)

// What holds a secret prints without it, whatever the verb: these values end up
// in logs and panics of programs that only wanted to know what they have.

const redacted = "[redacted]"

// Format prints which kind of thing it is and nothing in it.
func (*Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "cloudmls.Client") }

// LogValue is Format for package slog.
func (*Client) LogValue() slog.Value { return slog.StringValue("cloudmls.Client") }

// Format prints the options without VaultKey.
func (o Options) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{Origin:%q DeviceName:%q KeyPackages:%d VaultKey:%s}", o.Origin, o.DeviceName, o.KeyPackages, redacted)
}

// LogValue is Format for package slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(o)) }

// Format prints nothing of the code; whoever is to see it is shown Code.
func (Recovery) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "{Code:"+redacted+"}") }

// LogValue is Format for package slog.
func (Recovery) LogValue() slog.Value { return slog.StringValue("{Code:" + redacted + "}") }
