// Package crashpoint names the moments at which a crash would hurt most: just
// before and just after each durable step of sending a message and of opening
// an epoch. docs/crash-points.md is the table of them and of what each leaves.
//
// Here does nothing in an ordinary build. A program built with
//
//	go build -tags crashpoints
//
// kills itself, as a power cut would, at the point that the environment names:
// CLOUDMLS_CRASHPOINT=name or name:n, n counting the passes from 1.
//
// Once marks, for tests in such a build, that something is used which must not be
// used twice.
package crashpoint
