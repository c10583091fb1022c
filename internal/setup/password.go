package setup

import (
	"fmt"
	"unicode/utf8"

	"github.com/cloudmls/gateway/internal/secret"
)

// minPassword is how many characters a new password has at least. Whoever has
// the key server's database can try passwords for as long as they like, and
// everything hangs on this one.
const minPassword = 8

// CheckNewPassword refuses a new password that is too short. It never quotes it.
func CheckNewPassword(s secret.Secret) error {
	if n := utf8.RuneCount(s.Reveal()); n < minPassword {
		return fmt.Errorf("the new password has %d characters, and everything at the key server hangs on it: take %d at least, better some words", n, minPassword)
	}
	return nil
}
