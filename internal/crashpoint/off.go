//go:build !crashpoints

package crashpoint

// Enabled says whether this build can crash on demand.
const Enabled = false

// Here marks a point; in this build it does nothing.
func Here(string) {}
