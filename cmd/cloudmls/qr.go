package main

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quietZone is the margin that a QR code needs, in modules (ISO/IEC 18004).
const quietZone = 4

// qrText draws a QR code for a terminal, two modules to a character, dark on
// light whatever the terminal's colours are.
func qrText(content []byte) (string, error) {
	code, err := qr.Encode(string(content), qr.M)
	if err != nil {
		return "", fmt.Errorf("draw the QR code: %w", err)
	}
	dark := func(x, y int) bool { return code.Black(x, y) } // false outside
	var b strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quietZone; x < code.Size+quietZone; x++ {
			switch upper, lower := dark(x, y), dark(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}
