// Package codec reads and writes the presentation language of RFC 9420
// section 2.1: fixed-size integers, optional values, and vectors with a
// variable-size length header.
//
// A [Reader] remembers its first error, so that a decoder can be written
// without a check after each field; nothing it returns may be used before
// [Reader.Err] or [Reader.Finish] has been asked. A [Writer] cannot fail.
package codec

import "errors"

// Limits of what is decoded.
const (
	// MaxVector is the longest vector that is read, in bytes. The length header
	// could express 2^30-1; the largest object of package mls is the stored
	// state of a group, in which nearly everything is the vector of the tree.
	MaxVector = 64 << 20
	// MaxNesting is how deep vectors of structures may be nested.
	MaxNesting = 4
)

// Errors of a Reader.
var (
	ErrTruncated  = errors.New("input ends early")
	ErrTrailing   = errors.New("trailing bytes")
	ErrNotMinimal = errors.New("length is not encoded in the shortest form")
	ErrPrefix     = errors.New("invalid length prefix")
	ErrTooLong    = errors.New("vector is too long")
	ErrTooDeep    = errors.New("vectors are nested too deeply")
	ErrTooMany    = errors.New("vector has too many elements")
	ErrOptional   = errors.New("presence octet is neither 0 nor 1")
)
