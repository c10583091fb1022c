package keyapi_test

import (
	"bytes"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func TestProofCodesAsTyped(t *testing.T) {
	code := keyapi.NewProofCode([5]byte{0xff, 0x00, 0x44, 0x32, 0x14})
	for typed, ok := range map[string]bool{
		string(code): true, "": false, "ZW0-48GH": false, "UUUUUUUU": false, "0123456789": false, "0123456\u0130": false,
		"OIL0-1234": true, "abcd-efgh": true,
	} {
		got, err := keyapi.ProofCode(typed)
		if (err == nil) != ok || ok && len(got) != 8 {
			t.Errorf("%q: %q, %v", typed, got, err)
		}
	}
	if got, err := keyapi.ProofCode("oil0-1234"); err != nil || string(got) != "01101234" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzProofCode: what is accepted is accepted in its own form too, and means
// the same.
func FuzzProofCode(f *testing.F) {
	for _, s := range []string{"K7X2-M9QP", "oil0 1234", "", "UUUUUUUU", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, err := keyapi.ProofCode(s)
		if err != nil {
			return
		}
		again, err := keyapi.ProofCode(string(code))
		if err != nil || !bytes.Equal(again, code) {
			t.Errorf("%q: %q, %q, %v", s, code, again, err)
		}
	})
}
