//go:build unix

package boltstore

// privateModes: permission bits of files mean something here.
const privateModes = true
