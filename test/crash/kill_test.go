package crash

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// moments is how often something is killed in a run, the crash points among
// them.
const moments = 50

// Crash points by whose they are. Those of registration are in
// TestRegistrationIsKilled.
var (
	senderPoints = []string{
		"submission-received", "reservation-accepted", "reservation-noted", "generation-taken", "sealed", "thread-noted",
		"outbox-content-stored", "outbox-envelope-written", "outbox-held", "content-sent", "first-accepted",
		"outbox-released", "submission-done", "outbox-attempt-started", "outbox-accepted", "outbox-envelope-removed",
		"upload-sealed", "group-staged", "group-created", "handshake-reserved", "commit-staged", "update-sealed",
		"update-accepted", "update-noted", "commit-merged",
	}
	receiverPoints     = []string{"deliveries-processed", "deliveries-acknowledged"}
	keyServerPoints    = []string{"tx-applied", "tx-durable", "keypackage-taken"}
	registrationPoints = []string{"keypackages-stored", "keypackages-published"}
	// rotationPoints are tried by TestThreat44_RotationIsKilled of package cloudmls.
	rotationPoints = []string{
		"rotation-begun", "rotation-sessions-ended", "identity-stored", "identity-published", "identity-replaced",
		"rotation-group-done", "rotation-groups-done", "rotation-resealed",
	}
	// Those that take months to come to: TestMaintainIsKilled of package cloudmls.
	historyPoints = []string{"archive-packed", "archive-replaced", "history-due", "history-deleted"}
	// Those of three servers: TestThreat24_CrashAroundACommitApart of package cloudmls, and the model test.
	apartPoints = []string{"commit-stored", "commit-accepted", "notice-submitted", "secrets-wrapped", "secrets-replaced"}
	// Those of a move to another store: TestStoreMoveIsKilled of package cloudmls and its neighbours.
	movePoints = []string{
		"move-named", "store-registered", "store-arriving", "store-leaving", "store-copied", "store-opened", "store-verified", "store-gone",
		"move-done", "move-given-up", "move-stayed", "store-login-named", "store-login-renewed",
	}
)

// killing is one moment: a crash point, or a kill from outside.
type killing struct {
	victim *stack.Process
	ready  string
	point  string // empty: from outside
	passes int    // the crash is at one of the first so many
}

// TestThreat22_KillSoak: two users, one of them with two devices, write dialogs,
// groups, blind copies and drafts while gateways and key server are killed at
// fifty moments: every crash point and random ones. CLOUDMLS_SOAK=30m goes on
// with further seeds until that time has passed.
func TestThreat22_KillSoak(t *testing.T) {
	lab.Need(t)
	var until time.Time
	if s := os.Getenv("CLOUDMLS_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		until = time.Now().Add(d)
	}
	for seed := uint64(0); seed == 0 || time.Now().Before(until) && !t.Failed(); seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { killRun(t, seed) })
	}
}

func killRun(t *testing.T, seed uint64) {
	source := rand.New(rand.NewPCG(seed, 22))
	s := stack.New(t, lab)
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("erin", stack.Erin, stack.Frank, grace)
	a2 := s.AddDevice("alice2", "alice", stack.Alice)

	l := &load{why: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	running := busy(ctx, l, seed, a, a2, b)
	defer func() { cancel(); running.Wait() }()

	plan := plan(source, a.Process, a2.Process, b.Process, s.KeyServer)
	for i, k := range plan {
		if k.point == "" {
			time.Sleep(time.Duration(50+source.IntN(450)) * time.Millisecond) // the random moment
			k.victim.Kill()
			k.victim.Start(k.ready)
			continue
		}
		k.victim.Kill()
		if err := k.victim.CrashAt(k.ready, k.point, 1+source.IntN(k.passes)); err != nil {
			t.Errorf("moment %d: %v", i, err)
		}
		k.victim.Start(k.ready)
	}
	cancel()
	running.Wait()
	for _, g := range []*stack.Gateway{a, a2, b} {
		outboxEmpty(t, g)
	}

	// Everything is read by devices that have nothing but the password: what
	// counts is what is in the state, not what a cache remembers.
	people := []string{stack.Alice, stack.Erin, stack.Frank, grace}
	boxes := arrived(t, l, people)
	copies, marked := checkCopies(t, l, boxes)
	freshB := s.AddDevice("erin-fresh", "erin", stack.Erin, stack.Frank, grace)
	freshA := s.AddDevice("alice-fresh", "alice", stack.Alice)
	for _, person := range people[1:] {
		checkContents(t, l, freshB, person)
	}
	checkContents(t, l, freshA, stack.Alice)
	checkDrafts(t, l, freshA, stack.Alice)
	places := checkGenerations(t, s, l, "erin", boxes, people[1:]) + checkGenerations(t, s, l, "alice", boxes, people[:1])
	checkNothingReadable(t, s, l)

	answered := 0
	for _, x := range l.all {
		if x.answered {
			answered++
		}
	}
	if answered < len(l.all)/2 {
		t.Errorf("only %d of %d submissions and drafts were answered", answered, len(l.all))
	}
	if marked == 0 {
		t.Error("no copy was marked, although the gateway was killed between the provider's 250 and its record")
	}
	t.Logf("%d moments, %d attempts, %d answered, %d copies (%d marked), %d places in senders' sequences", len(plan), len(l.all), answered, copies, marked, places)
	for why, n := range l.why {
		t.Logf("%4d × %s", n, why)
	}
}

// plan mixes all crash points with kills from outside.
func plan(source *rand.Rand, a, a2, b, keys *stack.Process) []killing {
	var all []killing
	for _, p := range senderPoints {
		passes := 3
		if strings.HasPrefix(p, "group-") || strings.HasPrefix(p, "commit-") || strings.HasPrefix(p, "handshake-") {
			passes = 1 // they are seldom
		}
		all = append(all, killing{a, stack.GatewayReady, p, passes})
	}
	for _, p := range receiverPoints {
		all = append(all, killing{b, stack.GatewayReady, p, 1})
	}
	for _, p := range keyServerPoints {
		all = append(all, killing{keys, stack.KeyServerReady, p, 1})
	}
	outside := []killing{
		{a, stack.GatewayReady, "", 0}, {keys, stack.KeyServerReady, "", 0}, {b, stack.GatewayReady, "", 0}, {a2, stack.GatewayReady, "", 0},
	}
	for i := 0; len(all) < moments; i++ {
		all = append(all, outside[i%len(outside)])
	}
	source.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// TestEveryPointIsTried holds the lists above against docs/crash-points.md, and those of
// points that package cloudmls and the model test try against the tests there.
func TestEveryPointIsTried(t *testing.T) {
	table, err := os.ReadFile(filepath.Join("..", "..", "docs", "crash-points.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllSubmatch(table, -1) {
		documented = append(documented, string(m[1]))
	}
	tried := slices.Concat(senderPoints, receiverPoints, keyServerPoints, registrationPoints, rotationPoints, historyPoints, apartPoints, movePoints)
	slices.Sort(documented)
	slices.Sort(tried)
	if !slices.Equal(documented, tried) {
		t.Errorf("documented %v\ntried      %v", documented, tried)
	}
	own, err := filepath.Glob(filepath.Join("..", "..", "cloudmls", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var tests []byte
	for _, name := range append(own, filepath.Join("..", "model", "run_test.go")) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte("//go:build crashpoints")) {
			tests = append(tests, b...)
		}
	}
	for _, point := range slices.Concat(rotationPoints, historyPoints, apartPoints, movePoints) {
		if !bytes.Contains(tests, []byte(strconv.Quote(point))) {
			t.Errorf("no test of package cloudmls, nor the model test, kills at %s", point)
		}
	}
}

// outboxEmpty waits until a gateway has sent everything.
func outboxEmpty(t *testing.T, g *stack.Gateway) {
	t.Helper()
	for deadline := time.Now().Add(2 * stack.Deadline); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		waiting, err := filepath.Glob(filepath.Join(g.Dir, "data", "gateway", "outbox", "queue-*", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(waiting) == 0 {
			return
		}
	}
	t.Errorf("the outbox of %s is not empty\n%s", g.User, g.LogText())
}
