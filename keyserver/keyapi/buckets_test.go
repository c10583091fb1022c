package keyapi_test

import (
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func TestBuckets(t *testing.T) {
	t.Parallel()
	var b keyapi.Buckets
	for _, i := range []int{0, 7, 8, 255} {
		b.Add(i)
	}
	if s := b.String(); s != "8180"+strings.Repeat("00", 29)+"01" {
		t.Errorf("written %s", s)
	}
	for i := range keyapi.BucketCount {
		if want := i == 0 || i == 7 || i == 8 || i == 255; b.Has(i) != want {
			t.Errorf("bucket %d: %v", i, !want)
		}
	}
	for _, bad := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 66), strings.Repeat("x", 64)} {
		if got, err := keyapi.ParseBuckets(bad); err == nil || got != nil {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
	if i := (keyapi.ObjectID{1, 200, 3}).Bucket(); i != 200 {
		t.Errorf("bucket %d", i)
	}
}

// FuzzParseBuckets: what is read is written as it was, but for capital letters.
func FuzzParseBuckets(f *testing.F) {
	f.Add(strings.Repeat("0f", 32))
	f.Add(strings.Repeat("Ff", 32))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := keyapi.ParseBuckets(s); err == nil && b.String() != strings.ToLower(s) {
			t.Errorf("%q is written as %q", s, b)
		}
	})
}
