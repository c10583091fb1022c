// Package systemd tells systemd what a service is doing (sd_notify(3)) and
// writes logs in the form its journal understands (sd-daemon(3)). Where the
// program does not run under systemd, everything here does nothing.
package systemd
