//go:build !unix

package main

import "context"

// reloadOnSignal does nothing: there is no SIGHUP here, but 'cloudmls reload'.
func (r *running) reloadOnSignal(context.Context) {}
