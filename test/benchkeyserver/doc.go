// Package benchkeyserver measures the key server over HTTP on loopback, beside
// what its store could do without it, in the same run. One line a figure:
//
//	<name> <parameters> ours=… ref=… ratio=… target=… ok|short
//
// Rates end in /s and are better when higher; times (us, ms), octets (B) are
// better when lower. Where a target is a bound, ref is the bound and target
// 1.00; "none" stands for what there is not. A figure that falls short fails
// nothing: docs/performance-keyserver.md says why it does.
//
// PostgreSQL comes from test/postgres/install.
package benchkeyserver
