package mime

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func FuzzParse(f *testing.F) {
	_, messages := corpus(f)
	for _, m := range messages {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := Parse(bytes.NewReader(b), int64(len(b)), DefaultLimits)
		var limit *LimitError
		if errors.As(err, &limit) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		checkPlaces(t, root, b)
		root.Envelope()
		root.BodyStructure()
		for f := range Fields(root.Header) {
			f.Unfolded()
			if _, err := ParseMailboxes(f.Value); err != nil && !errors.Is(err, ErrAddress) {
				t.Fatal(err)
			}
		}
		got, err := ParseSkeleton(root.MarshalSkeleton(), DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if err := MatchSkeleton(got, root); err != nil {
			t.Fatal(err)
		}
		var names []string
		all := HeaderFields(root.Header, names, true)
		if !bytes.HasPrefix(all, root.Header) {
			t.Fatalf("all fields of %q are %q", root.Header, all)
		}
	})
}

func FuzzParseSkeleton(f *testing.F) {
	_, messages := corpus(f)
	for _, m := range messages {
		f.Add(parse(f, m).MarshalSkeleton())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := ParseSkeleton(b, DefaultLimits)
		if err != nil {
			return
		}
		if got := root.MarshalSkeleton(); !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
		root.Envelope()
		root.BodyStructure()
		root.Find([]int{1, 1, 1})
		root.WithPrefix([]byte("X: y\r\n"))
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("base64", []byte("aGVsbG8=\r\n"))
	f.Add("base64", []byte("aG=VsbG8"))
	f.Add("quoted-printable", []byte("a=3D=\r\nb =\t\r\n"))
	f.Fuzz(func(t *testing.T, encoding string, b []byte) {
		want, err := io.ReadAll(NewDecoder(encoding, bytes.NewReader(b)))
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewDecoded(bytes.NewReader(b), int64(len(b)), encoding)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size()))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q, %v; in order %q", got, err, want)
		}
	})
}
