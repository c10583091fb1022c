package config

import (
	"bytes"
	"errors"
	"testing"
)

// A change whose text says something else than the change means gives no
// result: a file that people wrote is not spoilt by a layout nobody thought of.
func TestEditThatSaysSomethingElseIsRefused(t *testing.T) {
	text := []byte("data_dir = \"/d\"\n[keyserver]\nurl = \"https://keys.example.org\"\n[user]\nname = \"alice\"\n[[accounts]]\naddress = \"alice@example.org\"\npolicy = \"require\"\n[accounts.imap]\nhost = \"mail.example.org\"\n[accounts.smtp]\nhost = \"mail.example.org\"\n")
	if _, err := ParseGateway("test", text); err != nil {
		t.Fatal(err)
	}
	wrong := Change{"name bob", func(g *Gateway) (func(*layout) ([]byte, error), error) {
		g.User.Name = "bob"
		return func(l *layout) ([]byte, error) {
			b := bytes.Replace(l.text, []byte(`"alice"`), []byte(`"bob"`), 1)
			return bytes.Replace(b, []byte("policy = \"require\"\n"), nil, 1), nil // and weakens the policy
		}, nil
	}}
	if got, err := EditGateway(text, wrong); !errors.Is(err, errLayout) || got != nil {
		t.Errorf("%q, %v; want no text and errLayout", got, err)
	}
}
