// Package config reads and checks the two configuration files: the gateway's
// and the key server's. Both are TOML.
//
// Checking is strict: an unknown key is an error that names the file, the line
// and the key that was probably meant, and all errors of a file are reported
// at once ([Problems]). Defaults are the safe ones: loopback, TLS, refuse.
//
// Secrets never stand in these files. A password is named by the file or the
// environment variable that holds it (password_file, password_env) and read by
// the program that needs it; passwords of mail clients stand as the SHA-256 of
// 128 random bits, from which nobody can find them. So a configuration file
// can be shown to others and kept under version control.
//
// [GatewayReference] and [KeyServerReference] print annotated samples, made
// from the documentation of the fields themselves.
//
// [EditGateway] changes a file and keeps everything else in it octet by octet,
// [NewGatewayFile] writes a fresh one, [WriteFile] replaces it on disk, and
// [Diff] tells what a running gateway has to do about a change.
//
// This package reads nothing but the file it is given: no environment, no
// secrets, no certificates.
package config
