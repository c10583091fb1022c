// Package bench measures what the gateway costs, against the same work without
// it, in one run: 'make bench'. Each figure is one line:
//
//	<name> <parameters> ours=<median> ref=<median> ratio=<median of pairs> target=<ratio> ok|short
//
// Both sides are measured in turn, A B A B, after a warm-up; the ratio is the
// median of the ratios of the pairs, so that a machine whose speed drifts
// changes it little. A figure that falls short fails nothing: docs/performance.md
// says why it does.
package bench
