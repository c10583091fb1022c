package mailseal

import (
	"bytes"
	"io"
	"testing"
)

func BenchmarkSeal(b *testing.B) {
	inner := sized(20 << 20)
	b.SetBytes(int64(len(inner)))
	for b.Loop() {
		if _, err := Seal(io.Discard, bytes.NewReader(inner), int64(len(inner)), testOptions()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	outer, _ := seal(b, sized(20<<20), testOptions())
	b.SetBytes(20 << 20)
	for b.Loop() {
		o, err := open(outer)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, io.NewSectionReader(o.message, 0, o.message.Size())); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealSmall(b *testing.B) {
	inner := sized(4 << 10)
	for b.Loop() {
		if _, err := Seal(io.Discard, bytes.NewReader(inner), int64(len(inner)), testOptions()); err != nil {
			b.Fatal(err)
		}
	}
}
