package main

import (
	"bytes"
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestQRText: every module of the code is where it belongs, and the margin is light.
func TestQRText(t *testing.T) {
	content := append([]byte("CMV1"), bytes.Repeat([]byte{0xfe, 0x00, 0x80}, 11)...)
	text, err := qrText(content)
	if err != nil {
		t.Fatal(err)
	}
	want, err := qr.Encode(string(content), qr.M)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	size := want.Size + 2*quietZone
	if len(lines) != (size+1)/2 {
		t.Fatalf("%d lines for %d modules", len(lines), size)
	}
	for n, line := range lines {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;107m"), "\x1b[0m")
		if len([]rune(line)) != size {
			t.Fatalf("line %d has %d modules, want %d", n, len([]rune(line)), size)
		}
		for x, r := range []rune(line) {
			for half, dark := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
				y := 2*n + half - quietZone
				if want.Black(x-quietZone, y) != dark {
					t.Fatalf("module %d, %d: %v", x-quietZone, y, dark)
				}
			}
		}
	}
}
