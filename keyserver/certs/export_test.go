package certs

import "time"

// SetClock replaces the clock of f.
func SetClock(f *Files, now func() time.Time) { f.now = now }
