package demo

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestHoldsSeesThroughBase64(t *testing.T) {
	const secret = "the violet otter sings at noon"
	for shift := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret + " and more text behind it"))
		coded = coded[:20] + "\r\n" + coded[20:]
		if !holds([]byte(coded), []byte(secret)) {
			t.Errorf("alignment %d: not found", shift)
		}
	}
	if holds([]byte(base64.StdEncoding.EncodeToString([]byte("nothing of that kind in here, none at all"))), []byte(secret)) {
		t.Error("found where it is not")
	}
}

func TestIntact(t *testing.T) {
	const sent = "Subject: x\r\n\r\ntext\r\n"
	for seen, want := range map[string]bool{
		"Return-Path: <a@b>\r\nReceived: from x\r\n\tby y\r\nCloudMLS-Status: t; verified\r\n" + sent: true,
		sent: false, // no status
		"CloudMLS-Status: t\r\nX-Other: y\r\n" + sent: false,
		"CloudMLS-Status: t\r\n" + sent + "more":      false,
	} {
		if got := intact([]byte(seen), []byte(sent)); got != want {
			t.Errorf("intact(%q) = %v, want %v", seen, got, want)
		}
	}
}
