package control

import (
	"errors"
	"os"
	"testing"
)

// TestOtherUsersAreRefused: the superuser included, whom the modes let in.
func TestOtherUsersAreRefused(t *testing.T) {
	if err := checkUser(os.Geteuid()); err != nil {
		t.Errorf("oneself: %v", err)
	}
	for _, uid := range []int{os.Geteuid() + 1, os.Geteuid() + 65534, -1} {
		if err := checkUser(uid); !errors.Is(err, errStranger) {
			t.Errorf("user %d: %v", uid, err)
		}
	}
}
