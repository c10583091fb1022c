// Package monitor shows an operator how a key server is doing: metrics in the
// form of Prometheus and the two questions that a supervisor or a load balancer
// asks. Nothing in it names a user, an account, a group or an object.
package monitor
