package mime

import "fmt"

// Limits bound what one message may cost. A zero field means the value of
// DefaultLimits.
type Limits struct {
	// Depth is the number of levels of nested parts below the root.
	Depth int
	// Parts is the number of parts in total, the root included.
	Parts int
	// HeaderBytes is the number of octets in all part headers together.
	HeaderBytes int
	// HeaderLines is the number of lines in the header of one part.
	HeaderLines int
	// BoundaryLength is the number of octets of a boundary (RFC 2046 section
	// 5.1.1 allows 70).
	BoundaryLength int
}

// DefaultLimits are generous for real mail and cheap for hostile mail.
var DefaultLimits = Limits{
	Depth:          16,
	Parts:          500,
	HeaderBytes:    256 << 10,
	HeaderLines:    1000,
	BoundaryLength: 70,
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.Depth, d.Depth)
	set(&l.Parts, d.Parts)
	set(&l.HeaderBytes, d.HeaderBytes)
	set(&l.HeaderLines, d.HeaderLines)
	set(&l.BoundaryLength, d.BoundaryLength)
	return l
}

// LimitError reports that a message is beyond a limit.
type LimitError struct {
	What string // "depth", "parts", "header octets", "header lines", "boundary octets"
	Max  int
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("message exceeds the limit of %d %s", e.Max, e.What)
}
