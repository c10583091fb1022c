// Package service does what commands ask for (control.Service): with the
// user's client at the key server, and with the gateway where one runs in this
// process.
package service
