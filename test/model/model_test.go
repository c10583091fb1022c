//go:build !crashpoints || !weakkdf

package model

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// firstSeed is that of the histories that every run of the tests plays.
const firstSeed = 50000

// TestModel builds this package as it has to be built (crash points that a test
// can use, passwords that cost nothing) and runs it.
//
// MODEL_RUNS is the number of random histories, 2,000 by default, 100 with
// -short; MODEL_LIES that of those in which the key server lies, 300 by default and 30
// with -short; where one of the two is set the other is none; MODEL_SHARDS the number of processes that share them, 2 by default;
// MODEL_SEED the seed of the first one: the same one by default, so that where a
// history fails it is a change that is to blame; "random" draws others ('make
// soak-model'). docs/model.md.
func TestModel(t *testing.T) {
	var err error
	runs, lies, shards := 2000, 300, number(t, "MODEL_SHARDS", 2)
	if testing.Short() {
		runs, lies = 100, 30
	}
	chosen := os.Getenv("MODEL_RUNS") != "" || os.Getenv("MODEL_LIES") != ""
	if chosen {
		runs, lies = number(t, "MODEL_RUNS", 0), number(t, "MODEL_LIES", 0)
	}
	program := filepath.Join(t.TempDir(), "model.test")
	build := exec.Command("go", "test", "-c", "-tags", "crashpoints,weakkdf", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	seed := uint64(firstSeed)
	switch s := os.Getenv("MODEL_SEED"); s {
	case "":
	case "random":
		seed = rand.Uint64()
	default:
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("MODEL_SEED: %v", err)
		}
	}
	var wg sync.WaitGroup
	lie := seed
	for n := range shards {
		share, first := (runs+n)/shards, seed
		lying, firstLie := (lies+n)/shards, lie
		seed, lie = seed+uint64(share), lie+uint64(lying)
		var which []string
		if share > 0 {
			which = append(which, "TestModel")
		}
		if lying > 0 {
			which = append(which, "TestLyingModel")
		}
		if len(which) == 0 {
			continue
		}
		wg.Go(func() {
			cmd := exec.Command(program, "-test.count=1", "-test.timeout=0", "-test.v")
			if n > 0 || chosen { // the other tests run once
				cmd.Args = append(cmd.Args, "-test.run=^("+strings.Join(which, "|")+")$")
			}
			cmd.Env = append(os.Environ(), fmt.Sprintf("MODEL_RUNS=%d", share), fmt.Sprintf("MODEL_SEED=%d", first),
				fmt.Sprintf("MODEL_LIES=%d", lying), fmt.Sprintf("MODEL_LIES_SEED=%d", firstLie))
			said := &lines{prefix: fmt.Sprintf("process %d: ", n)}
			cmd.Stdout, cmd.Stderr = said, said
			switch err := cmd.Run(); {
			case err != nil && testing.Verbose(): // it was seen already
				t.Errorf("process %d: %v", n, err)
			case err != nil:
				t.Errorf("process %d: %v\n%s", n, err, said.all.Bytes())
			}
		})
	}
	wg.Wait()
}

// lines keeps what a process says, and passes it on, line by line, as it comes.
type lines struct {
	prefix string
	all    bytes.Buffer
	at     int // what is before was passed on
}

func (l *lines) Write(p []byte) (int, error) {
	l.all.Write(p)
	for testing.Verbose() {
		rest := l.all.Bytes()[l.at:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		fmt.Printf("%s%s\n", l.prefix, rest[:end])
		l.at += end + 1
	}
	return len(p), nil
}

func number(t *testing.T, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is not a number", name, s)
	}
	return n
}
