package crash

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// TestF30_RegistrationIsKilled: KeyPackages are published after their private
// parts are stored. A registration that is killed in between is continued by
// the gateway's start, and mail to the new user opens: no KeyPackage was published
// whose private part is lost.
func TestF30_RegistrationIsKilled(t *testing.T) {
	lab.Need(t)
	for _, point := range append([]string{"update-sealed", "update-accepted", "update-noted"}, registrationPoints...) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := stack.New(t, lab)
			a := s.AddUser("alice", stack.Alice)
			b := s.Configure("erin", "erin", stack.Erin)
			cmd := exec.Command(lab.Program, "register", "--config", b.Config)
			cmd.Env = append(os.Environ(), "CLOUDMLS_CRASHPOINT="+point)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "crash point "+point) {
				t.Fatalf("the registration was not killed: %v\n%s", err, out)
			}
			if !strings.Contains(string(out), "recovery code: ") {
				t.Error("the recovery code was not printed before the account was added")
			}
			b.Run()
			l := &load{why: map[string]int{}}
			if err := l.send(a, "<"+point+"@crash.test>", stack.Alice, []string{stack.Erin}, nil, "", 400); err != nil {
				t.Fatal(err)
			}
			arrived(t, l, []string{stack.Erin})
			checkContents(t, l, b, stack.Erin)
		})
	}
}
