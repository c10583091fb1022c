package session

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

func TestFlagFilter(t *testing.T) {
	own := []string{"$MLSEncrypted"}
	for _, tt := range []struct {
		in, sealed, plain []string
	}{
		{[]string{"* 1 FETCH (FLAGS (\\Seen $mlsverified) UID 1)\r\n"}, []string{"* 1 FETCH (FLAGS (\\Seen $MLSEncrypted) UID 1)\r\n"}, []string{"* 1 FETCH (FLAGS (\\Seen) UID 1)\r\n"}},
		{[]string{"* 1 FETCH (BODY[1] {3}\r\n", " X (\"FLAGS (\" {3}\r\n", ") FLAGS (a $MLSVerified))\r\n"}, []string{"* 1 FETCH (BODY[1] {3}\r\n", " X (\"FLAGS (\" {3}\r\n", ") FLAGS (a $MLSEncrypted))\r\n"}, []string{"* 1 FETCH (BODY[1] {3}\r\n", " X (\"FLAGS (\" {3}\r\n", ") FLAGS (a))\r\n"}},
		{[]string{"* 1 FETCH (FLAGS ())\r\n"}, []string{"* 1 FETCH (FLAGS ($MLSEncrypted))\r\n"}, []string{"* 1 FETCH (FLAGS ())\r\n"}},
		{[]string{"* 1 FETCH (BODY[] {3}\r\n", " flags (a))\r\n"}, []string{"* 1 FETCH (BODY[] {3}\r\n", " flags (a $MLSEncrypted))\r\n"}, nil},
		{[]string{"* 1 FETCH (BODY[HEADER.FIELDS (FLAGS X)] {3}\r\n", " UID 3)\r\n"}, nil, nil},
		{[]string{`* 1 FETCH (ENVELOPE ("FLAGS (x)" "a\" FLAGS (" ("b")) UID 4)` + "\r\n"}, nil, nil},
		{[]string{`* 1 FETCH (BODYSTRUCTURE ("text" "FLAGS" ("FLAGS" "x")) FLAGS (a))` + "\r\n"}, []string{`* 1 FETCH (BODYSTRUCTURE ("text" "FLAGS" ("FLAGS" "x")) FLAGS (a $MLSEncrypted))` + "\r\n"}, nil},
		{[]string{"* 1 FETCH (XFLAGS (a) FLAGS (b))\r\n"}, []string{"* 1 FETCH (XFLAGS (a) FLAGS (b $MLSEncrypted))\r\n"}, nil},
	} {
		for _, c := range []struct {
			own  []string
			want []string
		}{{own, tt.sealed}, {nil, tt.plain}} {
			if c.want == nil {
				c.want = tt.in
			}
			for _, plain := range []bool{false, c.own == nil} {
				f := flagFilter{own: c.own, plain: plain, limit: 1 << 20}
				for i, seg := range tt.in {
					got, err := f.next([]byte(seg), i < len(tt.in)-1)
					if err != nil || string(got) != c.want[i] {
						t.Errorf("%q with %v, plain %v: got %q (%v), want %q", seg, c.own, plain, got, err, c.want[i])
					}
				}
			}
		}
	}
}

// TestOddFetchEnds: what could be read in another way than the relay reads it is
// an error.
func TestOddFetchEnds(t *testing.T) {
	for _, in := range [][]string{
		{"* 1 FETCH (FLAGS ({12}\r\n"},
		{"* 1 FETCH (FLAGS (a {12}\r\n"},
		{"* 1 FETCH (flags ({12}\r\n", "))\r\n"},
		{"* 1 FETCH (FLAGS $MLSVerified)\r\n"},
		{"* 1 FETCH (FLAGS \"$MLSVerified\")\r\n"},
		{"* 1 FETCH (FLAGS (\"$MLSVerified\"))\r\n"},
		{"* 1 FETCH (FLAGS () X {1}\r\n", " Y {}\r\n $MLSVerified\r\n"},
		{"* 1 FETCH (X $mls Y {}\r\n"},
		{"* 1 FETCH (X 1\"a\" $mls)\r\n"},
		{"* 1 FETCH (X (1)(2) $mls)\r\n"},
		{"* 1 FETCH (X \"1\"\"2\" $mls)\r\n"},
		{"* 1 FETCH (UID 8 X $mls)\r\n"},
		{"* 1 FETCH (UID 8)\r\n"},
		{"* 1 FETCH (BODY[] {3}\r\n", " uid 8)\r\n"},
		{"* 1 FETCH (BODY[] {3}\r\n", " UID 07)\r\n"},
		{"* 1 FETCH (BODY[] {3}\r\n", ") UID 7 $mls\r\n"},
	} {
		f := flagFilter{plain: true, uid: 7, limit: 1 << 20}
		var err error
		for i, seg := range in {
			if err == nil {
				_, err = f.next([]byte(seg), i < len(in)-1 || strings.HasSuffix(seg, "2}\r\n"))
			}
		}
		if err == nil {
			t.Errorf("%q passes", in)
		}
	}
	for in, want := range map[string]bool{
		"* 1 FETCH (UID 8 FLAGS ())\r\n": false, "* 1 FETCH (UID 7 FLAGS ())\r\n": true,
		"* 1 FETCH (FLAGS () X)\r\n": false, "* 1 FETCH FLAGS\r\n": false,
		"* 1 FETCH (MODSEQ (1\" \") X (\" \"))\r\n": false, "* 1 FETCH (X (\"a\"b))\r\n": false,
		"* 1 FETCH (X ((a)(b)))\r\n": true,
	} {
		if _, err := rewriteWhole([]byte(in), nil, 7); (err == nil) != want {
			t.Errorf("%q in memory: %v", in, err)
		}
	}
	if got := withoutOwn([]string{"a", `"$MLSVerified"`, "$mlswarning\x00", `\$MLSEncrypted`, "$MLSVerifiedX", "$MLSVerified\xff"}); strings.Join(got, " ") != "a $MLSVerifiedX" {
		t.Errorf("flags without ours: %q", got)
	}
}

// TestFlagFilterIsBounded: text that need not be read is passed on at any length,
// and kept up to the limit; what has to be read is not read for ever.
func TestFlagFilterIsBounded(t *testing.T) {
	f := flagFilter{plain: true, limit: 100}
	for i := range 50 {
		seg := " X {3}\r\n"
		if i == 0 {
			seg = "* 1 FETCH (X {3}\r\n"
		}
		if got, err := f.next([]byte(seg), true); err != nil || string(got) != seg {
			t.Fatalf("segment %d: %q, %v", i, got, err)
		}
	}
	if cap(f.items.text) > 200 {
		t.Errorf("%d octets are kept", cap(f.items.text))
	}
	if _, err := f.next([]byte(" FLAGS ($MLSVerified))\r\n"), false); err == nil {
		t.Error("flags behind too much text pass")
	}
	f = flagFilter{plain: true, limit: 1 << 20}
	_, err := f.next([]byte("* 1 FETCH (X ($mls {3}\r\n"), true)
	for range 2 * maxReads {
		if err == nil {
			_, err = f.next([]byte(" $mls {3}\r\n"), true)
		}
	}
	if err == nil {
		t.Error("pieces without end are read")
	}
}

// FuzzFlagFilter: what gets through and says FLAGS outside a string has no keyword
// of ours behind it, and text without one stays as it is.
func FuzzFlagFilter(f *testing.F) {
	f.Add("* 1 FETCH (UID 1 FLAGS (\\Seen $MLSVerified) X (y))\r\n", " Z 1)\r\n")
	f.Add("* 1 FETCH (BODY[HEADER.FIELDS (\"x\")]<0> {3}\r\n", " FLAGS ($MLSWarning))\r\n")
	f.Add("* 1 FETCH (MODSEQ (1\" \") FLAGS ($MLSVerified) X (\" \"))\r\n", "")
	f.Fuzz(func(t *testing.T, first, second string) {
		f := flagFilter{plain: true, limit: 1 << 20}
		out, err := f.next([]byte(first), second != "")
		if err == nil && second != "" {
			var more []byte
			more, err = f.next([]byte(second), false)
			out = append(bytes.Clone(out), more...)
		}
		in := first + second
		if err == nil && !containsFold([]byte(in), ownMark) && string(out) != in {
			t.Fatalf("%q became %q", in, out)
		}
		if err == nil && !strings.Contains(in, "\"") && strings.Contains(strings.ToUpper(string(out)), "FLAGS ($MLSVERIFIED)") {
			t.Fatalf("%q became %q", in, out)
		}
	})
}

func TestFilterStatus(t *testing.T) {
	for in, want := range map[string]string{
		"* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE AUTH=PLAIN":          "* CAPABILITY IMAP4rev1 IDLE LITERAL+",
		"* capability imap4rev1 literal- utf8=accept":                      "* capability imap4rev1 LITERAL+",
		"* OK [CAPABILITY IMAP4rev2 IMAP4rev1 STARTTLS SASL-IR] ready [x]": "* OK [CAPABILITY IMAP4rev1 LITERAL+] ready [x]",
		"T1 OK [CAPABILITY IDLE BINARY PREVIEW=FUZZY] done":                "T1 OK [CAPABILITY IDLE LITERAL+] done",
		"* OK [ALERT] CAPABILITY COMPRESS=DEFLATE":                         "* OK [ALERT] CAPABILITY COMPRESS=DEFLATE",
		"T1 OK done [CAPABILITY X]":                                        "T1 OK done [CAPABILITY X]",
		"* OK [CAPABILITY broken":                                          "* OK [CAPABILITY broken",
	} {
		if got := string(filterStatus([]byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for _, c := range []string{"MULTIAPPEND", "REPLACE", "CATENATE", "URLAUTH", "URLAUTH=BINARY", "CONVERT", "NOTIFY", "CONTEXT=SEARCH", "UNAUTHENTICATE", "LOGIN-REFERRALS"} {
		if policy.Capability(c) != policy.Hide {
			t.Errorf("%s is shown", c)
		}
	}
	for _, c := range []string{"CONDSTORE", "QRESYNC", "SORT", "THREAD=REFERENCES", "QUOTA", "X-GM-EXT-1", "OBJECTID", "XYZ=1"} {
		if policy.Capability(c) != policy.Pass {
			t.Errorf("%s is hidden", c)
		}
	}
}

// TestMailboxNumbers follows EXPUNGE and VANISHED.
func TestMailboxNumbers(t *testing.T) {
	fresh := func() *mailbox {
		return &mailbox{exists: 6, classified: 5, classifiedTo: 50, uids: []uint32{10, 20, 30, 40, 50},
			sealed: map[uint32]*sealedEntry{20: {}, 40: {}}}
	}
	b := fresh()
	b.expunge(1)
	if b.sealedAt(1) == nil || b.sealedAt(3) == nil || b.exists != 5 || b.classified != 4 || b.seqOf(40) != 3 {
		t.Errorf("after EXPUNGE 1: %+v", b)
	}
	b.expunge(1)
	b.expunge(4)
	b.expunge(9)
	b.expunge(0)
	if len(b.sealed) != 1 || b.exists != 3 || b.classified != 3 {
		t.Errorf("after three EXPUNGEs: %+v", b)
	}
	b = fresh()
	b.apply(&response{name: "VANISHED", seg: segmentOf("* VANISHED 15:30,41:99\r\n"), rest: len("* VANISHED ")})
	if len(b.uids) != 2 || b.sealed[20] != nil || b.seqOf(40) != 2 || b.exists != 2 || b.classified != 2 {
		t.Errorf("after VANISHED: %+v", b)
	}
	b = fresh()
	b.apply(&response{name: "VANISHED", seg: segmentOf("* VANISHED (EARLIER) 1:50\r\n"), rest: len("* VANISHED ")})
	if b.exists != 6 {
		t.Errorf("after VANISHED (EARLIER): %+v", b)
	}
}

func segmentOf(line string) (s wire.Segment) {
	s.Raw = []byte(line)
	return s
}
