package evil

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

// TestSearchFindsSecrets is the positive control of everything that is "not
// found" elsewhere.
func TestSearchFindsSecrets(t *testing.T) {
	t.Parallel()
	password := "Grüße, \"日本\" \\ <&> and\t12/more+"
	key := []byte("\x00\x01\xff\xfe/secret+\x80\x7f\"\\<\x1b key")
	for name, secret := range map[string][]byte{"password": []byte(password), "key": key} {
		inJSON := func(v any) []byte {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret)
		h := hex.EncodeToString(secret)
		written := map[string][]byte{
			"raw":                append([]byte("x"), secret...),
			"hex":                []byte("key=" + h + "."),
			"HEX":                []byte(strings.ToUpper(h)),
			"hex, odd alignment": []byte("abc" + h),
			"base64":             []byte(base64.StdEncoding.EncodeToString(secret)),
			"base64url":          []byte(base64.URLEncoding.EncodeToString(secret)),
			"query":              []byte(url.Values{"k": {string(secret)}}.Encode()),
			"path":               []byte("/v1/" + url.PathEscape(string(secret))),
			"%v of octets":       fmt.Appendf(nil, "%v", secret),
			"%q":                 fmt.Appendf(nil, "%q", secret),
			"%+q":                fmt.Appendf(nil, "%+q", secret),
			"%x":                 fmt.Appendf(nil, "%x", secret),
			"%#v":                fmt.Appendf(nil, "%#v", struct{ S string }{string(secret)}),
			"JSON octets":        inJSON(map[string][]byte{"a": secret}),
			"log":                []byte(log.String()),
		}
		if name == "password" {
			written["JSON string"] = inJSON(map[string]string{"password": password})
		} else {
			delete(written, "%q") // not valid UTF-8: a mixture that nobody prints keys in
			delete(written, "%+q")
			delete(written, "%#v")
			delete(written, "log")
		}
		for offset := range 3 {
			inside := append([]byte("xyz")[:offset:offset], secret...)
			inside = append(inside, "end"...)
			b := base64.StdEncoding.EncodeToString(inside)
			written[fmt.Sprint("inside base64, offset ", offset)] = []byte(b)
			written[fmt.Sprint("inside base64 inside JSON inside base64, offset ", offset)] =
				[]byte(base64.URLEncoding.EncodeToString(inJSON(map[string]string{"token": b})))
			written[fmt.Sprint("inside base64 behind text, offset ", offset)] = []byte("abcde"[:offset] + b)
		}
		for how, b := range written {
			if Find(b, secret) == "" {
				t.Errorf("%s: not found as %s: %s", name, how, b)
			}
			if Find(b, []byte("another secret")) != "" {
				t.Errorf("%s: something else was found as %s", name, how)
			}
		}
	}
}
