package main

import (
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	const events = `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"what went wrong\n"}
{"Action":"fail","Package":"p","Test":"TestBad","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestGood","Output":"nobody needs this\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"skip","Package":"p","Test":"TestLazy"}
{"Action":"fail","Package":"p"}
{"Action":"skip","Package":"empty"}
{"Action":"pass","Package":"q","Elapsed":1.5}
a message of the build
`
	r := &report{said: map[string]*strings.Builder{}}
	var out strings.Builder
	if err := r.read(strings.NewReader(events), &out); err != nil {
		t.Fatal(err)
	}
	if want := "what went wrong\nok   q 1.5s\na message of the build\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if r.passed != 1 || !slices.Equal(r.failed, []string{"p TestBad", "p"}) || !slices.Equal(r.skipped, []string{"p TestLazy"}) {
		t.Errorf("passed %d, failed %v, skipped %v", r.passed, r.failed, r.skipped)
	}
}
