package main

import (
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/proxy"
)

// problemText is a problem and what to do about it.
func problemText(account string, p control.Problem) string {
	next := ""
	switch proxy.ProblemKind(p.Kind) {
	case proxy.ProblemIdentity:
		next = "compare codes with them: cloudmls contact code " + p.Contact + " --account " + account + ", then cloudmls contact verify, or accept"
	case proxy.ProblemFork, proxy.ProblemBroken, proxy.ProblemReplaced:
		next = "see it: cloudmls conversation show " + p.Conversation + " --account " + account
	case proxy.ProblemKeyPackages:
		next = "they are made anew at the next sync: is the key server there? cloudmls doctor"
	case proxy.ProblemFull:
		next = "make room in the mailbox at the provider"
	case proxy.ProblemRenumbered:
		next = "mail clients load the mailbox anew; there is nothing to do"
	}
	if next == "" {
		return p.Text
	}
	return p.Text + "\n      -> " + next
}

// faultHint is what to do about a failure.
func faultHint(account string, f *control.Fault) string {
	if f == nil {
		return ""
	}
	switch proxy.FaultKind(f.Kind) {
	case proxy.FaultUnreachable, proxy.FaultName:
		return "is this machine online? It is tried again by itself"
	case proxy.FaultCertificate:
		return "do not go on before you know why: is this the provider's network, and is the clock right? cloudmls doctor"
	case proxy.FaultLogin, proxy.FaultNoPassword:
		return "store the password anew: cloudmls account password " + account
	case proxy.FaultNotNow:
		return "it is tried again by itself. Too many connections? Lower their number in the mail program's server settings"
	case proxy.FaultDisk:
		return "make room on this machine's disk"
	case proxy.FaultSignedOut:
		return "sign in again: end the gateway, then cloudmls setup --sign-in, and start it again"
	case proxy.FaultLost:
		return "it is connected again when a mail program asks for something"
	case proxy.FaultAccount:
		return "end the gateway, then cloudmls account prove " + account + ", or cloudmls setup"
	case proxy.FaultRollback, proxy.FaultSignIn:
		return "do not go on: the key server may be lying. Ask its operator; your mail stays sealed"
	}
	return ""
}
