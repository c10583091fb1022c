package wire

import (
	"bytes"
	"slices"
	"strconv"
)

// Star is the value of "*" in a Set that has not been resolved.
const Star = 0

// maxRanges bounds the ranges of one set.
const maxRanges = 20000

// Range is a range of message numbers, ends included.
type Range struct{ Lo, Hi uint32 }

// Set is a set of sequence numbers or UIDs (RFC 9051 sequence-set).
type Set []Range

// ParseSet reads a set as it stands in a command: numbers, ranges in any
// order, "*".
func ParseSet(b []byte) (Set, error) {
	var set Set
	for part := range bytes.SplitSeq(b, []byte{','}) {
		lo, hi, isRange := bytes.Cut(part, []byte{':'})
		r := Range{}
		var ok bool
		if r.Lo, ok = parseNum(lo); !ok {
			return nil, ErrSyntax
		}
		r.Hi = r.Lo
		if isRange {
			if r.Hi, ok = parseNum(hi); !ok {
				return nil, ErrSyntax
			}
		}
		if len(set) >= maxRanges {
			return nil, ErrTooLong
		}
		set = append(set, r)
	}
	return set, nil
}

func parseNum(b []byte) (uint32, bool) {
	if len(b) == 1 && b[0] == '*' {
		return Star, true
	}
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil || n == 0 || b[0] == '+' {
		return 0, false
	}
	return uint32(n), true
}

// HasStar tells whether the set names "*".
func (s Set) HasStar() bool {
	return slices.ContainsFunc(s, func(r Range) bool { return r.Lo == Star || r.Hi == Star })
}

// Max returns the largest number that the set names, "*" aside.
func (s Set) Max() uint32 {
	var m uint32
	for _, r := range s {
		m = max(m, r.Lo, r.Hi)
	}
	return m
}

// Resolve replaces "*" by last and returns the set sorted, ranges in order and
// merged.
func (s Set) Resolve(last uint32) Set {
	out := make(Set, 0, len(s))
	for _, r := range s {
		if r.Lo == Star {
			r.Lo = last
		}
		if r.Hi == Star {
			r.Hi = last
		}
		if r.Lo > r.Hi {
			r.Lo, r.Hi = r.Hi, r.Lo
		}
		if r.Hi == 0 {
			continue
		}
		out = append(out, Range{max(r.Lo, 1), r.Hi})
	}
	slices.SortFunc(out, func(a, b Range) int {
		if a.Lo < b.Lo {
			return -1
		} else if a.Lo > b.Lo {
			return 1
		}
		return 0
	})
	merged := out[:0]
	for _, r := range out {
		if n := len(merged); n > 0 && (merged[n-1].Hi == ^uint32(0) || r.Lo <= merged[n-1].Hi+1) {
			merged[n-1].Hi = max(merged[n-1].Hi, r.Hi)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Contains tells whether a resolved set holds n.
func (s Set) Contains(n uint32) bool {
	_, ok := slices.BinarySearchFunc(s, n, func(r Range, n uint32) int {
		switch {
		case r.Hi < n:
			return -1
		case r.Lo > n:
			return 1
		}
		return 0
	})
	return ok
}

// Minus returns a resolved set without the numbers of drop, which is sorted.
func (s Set) Minus(drop []uint32) Set {
	var out Set
	i := 0
	for _, r := range s {
		lo, done := r.Lo, false
		for i < len(drop) && drop[i] < lo {
			i++
		}
		for i < len(drop) && drop[i] <= r.Hi {
			if drop[i] > lo {
				out = append(out, Range{lo, drop[i] - 1})
			}
			if drop[i] == r.Hi {
				done = true
			}
			lo = drop[i] + 1
			i++
		}
		if !done {
			out = append(out, Range{lo, r.Hi})
		}
	}
	return out
}

// From returns a resolved set without the numbers below lo.
func (s Set) From(lo uint32) Set {
	var out Set
	for _, r := range s {
		if r.Hi >= lo {
			out = append(out, Range{max(r.Lo, lo), r.Hi})
		}
	}
	return out
}

// SetOf returns the set of the given numbers, which are sorted.
func SetOf(nums []uint32) Set {
	var s Set
	for _, n := range nums {
		if k := len(s); k > 0 && s[k-1].Hi+1 == n {
			s[k-1].Hi = n
			continue
		}
		s = append(s, Range{n, n})
	}
	return s
}

// Append appends a resolved set in wire form.
func (s Set) Append(dst []byte) []byte {
	for i, r := range s {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(r.Lo), 10)
		if r.Hi != r.Lo {
			dst = append(dst, ':')
			dst = strconv.AppendUint(dst, uint64(r.Hi), 10)
		}
	}
	return dst
}

// String returns the wire form.
func (s Set) String() string { return string(s.Append(nil)) }

// Chunks cuts a resolved set into pieces of at most n ranges, so that command
// lines stay short.
func (s Set) Chunks(n int) []Set {
	var out []Set
	for chunk := range slices.Chunk(s, n) {
		out = append(out, chunk)
	}
	return out
}
