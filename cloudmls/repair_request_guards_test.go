package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
)

// TestRepairRequestIsStrict: what is not as sign gives it is refused before anybody
// looks at the signature, with what is wrong with it, however it was signed.
func TestRepairRequestIsStrict(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	long := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	head := len(someRepairRequest().marshal()) - len(someRepairRequest().serving) - len(someRepairRequest().group) - 2 - 2 - 16 - 8 - 32
	for what, c := range map[string]struct {
		change func(*repairRequest)
		octets func([]byte) []byte // of the request as it is sent
		want   string              // of the error; none: it passes
	}{
		"the longest texts":            {change: func(r *repairRequest) { r.origin = strings.Repeat("o", maxRepairText) }},
		"a longer text":                {change: func(r *repairRequest) { r.origin = strings.Repeat("o", maxRepairText+1) }, want: "length of a text"},
		"the longest groups":           {change: func(r *repairRequest) { r.group, r.serving = long(255), long(255) }},
		"no group that serves":         {change: func(r *repairRequest) { r.serving = nil }},
		"no group":                     {change: func(r *repairRequest) { r.group = nil }, want: "length of the group id"},
		"a longer group":               {change: func(r *repairRequest) { r.group = long(256) }, want: "length of the group id"},
		"a longer group that serves":   {change: func(r *repairRequest) { r.serving = long(256) }, want: "length of the serving group's id"},
		"one longer than any text":     {change: func(r *repairRequest) { r.serving = long(maxRepairText + 1) }, want: "length of the serving group's id"},
		"nobody":                       {change: func(r *repairRequest) { r.account = Account{} }, want: "canonical"},
		"an account of no platform":    {change: func(r *repairRequest) { r.account.Platform = "" }, want: "canonical"},
		"an account in another form":   {change: func(r *repairRequest) { r.account.ID = "Carol@Example.org" }, want: "canonical"},
		"of a later version":           {octets: func(b []byte) []byte { b[4] = 2; return b }, want: "version 2"},
		"of another kind":              {octets: func(b []byte) []byte { b[0] = 'X'; return b }, want: "cut short"},
		"cut in the conversation":      {octets: func(b []byte) []byte { return b[:head+15] }, want: "cut short"},
		"cut in the length of a group": {octets: func(b []byte) []byte { return b[:head+17] }, want: "length of the group id"},
		"the serving group's length": {octets: func(b []byte) []byte {
			return append(b[:head+16+2+32:head+16+2+32], append([]byte{255, 255}, long(8+32+64-2)...)...)
		}, want: "length of the serving group's id"},
		"an octet more":                 {octets: func(b []byte) []byte { return append(b, 0) }, want: "length"},
		"an octet less":                 {octets: func(b []byte) []byte { return b[:len(b)-1] }, want: "length"},
		"three octets":                  {octets: func(b []byte) []byte { return b[:3] }, want: "cut short"},
		"no octets":                     {octets: func([]byte) []byte { return nil }, want: "cut short"},
		"what tells its kind, and more": {octets: func(b []byte) []byte { return b[:5] }, want: "cut short"},
	} {
		r := someRepairRequest()
		if c.change != nil {
			c.change(r)
		}
		b := r.sign(private)
		if c.octets != nil {
			b = c.octets(b)
		}
		b = append(make([]byte, 0, len(b)), b...) // nothing lies behind it
		got, signature, err := parseRepairRequest(b)
		if c.want == "" {
			if err != nil || !got.verify(public, signature) || !bytes.Equal(got.marshal(), r.marshal()) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if !errors.Is(err, errRepairRequest) || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
