//go:build !unix

package boltstore

// privateModes: access is ruled by lists that os.FileMode does not show.
const privateModes = false
