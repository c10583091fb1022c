package proxy

import (
	"errors"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/mailseal"
)

// stub explains why a message cannot be opened. Codes and texts are never
// changed, only added: mail clients store what was shown, and imapd asks for
// the same stub again by its code.
type stub struct {
	temporary bool
	reason    string // in the status field
	text      string // what the person reads
}

const (
	stubNotYet      = "not-yet"
	stubUnavailable = "unavailable"
	stubMalformed   = "malformed"
	stubInvalid     = "invalid"
	stubBeforeJoin  = "before-join"
	stubAfterLeave  = "after-removal"
	stubFork        = "fork"
	stubForeign     = "foreign"
	stubDamaged     = "damaged"
	stubPersonal    = "personal"
	stubVersion     = "version"
)

const stubIntro = "This message is encrypted end to end and cannot be shown.\r\n\r\n"

var stubs = map[string]stub{
	stubNotYet: {true, "keys have not arrived yet", stubIntro +
		"The keys for it have not arrived yet. It is opened by itself as soon as they do; there is nothing you have to do.\r\n"},
	stubUnavailable: {true, "key server not available", stubIntro +
		"The key server could not be asked for the keys. It is opened by itself once the key server answers again.\r\n"},
	stubMalformed: {false, "not a valid encrypted message", stubIntro +
		"What was received is not a valid encrypted message. It may have been damaged on the way; ask the sender to send it again.\r\n"},
	stubInvalid: {false, "altered or not from a member", stubIntro +
		"It was altered on the way, or was not made by a member of the conversation. Do not trust it; ask the sender whether they wrote to you.\r\n"},
	stubBeforeJoin: {false, "sent before you were added", stubIntro +
		"It was sent before you were added to this conversation, so no keys exist for you. Ask somebody who was in it to forward it.\r\n"},
	stubAfterLeave: {false, "sent after you were removed", stubIntro +
		"It was sent after you were removed from this conversation.\r\n"},
	stubFork: {false, "states of the group differ", stubIntro +
		"The sender's state of the conversation and yours differ. Ask the sender to send it again.\r\n"},
	stubForeign: {false, "not one of your conversations", stubIntro +
		"It belongs to a group that is not one of your conversations.\r\n"},
	stubDamaged: {false, "content damaged", stubIntro +
		"Its content was damaged or replaced on the way, and nothing of it is shown. Ask the sender to send it again.\r\n"},
	stubPersonal: {true, "own keys do not open it", stubIntro +
		"You sealed it for yourself, but your keys do not open it: they have not arrived yet, or it was damaged.\r\n"},
	stubVersion: {true, "made by a later version", stubIntro +
		"It was made by a later version of this program. It is opened by itself after an update.\r\n"},
}

// errPersonal: OpenPersonal failed, for whatever reason.
var errPersonal = errors.New("own keys do not open it")

// stubCode translates an error of cloudmls or mailseal. Errors that are not
// known to be for good are temporary.
func stubCode(err error) string {
	var never *cloudmls.NeverError
	switch {
	case errors.As(err, &never):
		switch never.Reason {
		case cloudmls.NeverMalformed:
			return stubMalformed
		case cloudmls.NeverBeforeJoin:
			return stubBeforeJoin
		case cloudmls.NeverAfterRemoval:
			return stubAfterLeave
		case cloudmls.NeverFork:
			return stubFork
		case cloudmls.NeverForeign:
			return stubForeign
		}
		return stubInvalid
	case errors.Is(err, errPersonal):
		return stubPersonal
	case errors.Is(err, mailseal.ErrVersion):
		return stubVersion
	case errors.Is(err, mailseal.ErrCorrupt):
		return stubDamaged
	case errors.Is(err, cloudmls.ErrNotYet):
		return stubNotYet
	}
	return stubUnavailable
}

// stubKeyVersion is the form of a StubKey: version, code, ref.
const stubKeyVersion = "1"

// stubView presents the explanation for code.
func (a *account) stubView(header []byte, code, ref string) *imapd.View {
	s, ok := stubs[code]
	if !ok {
		code = stubUnavailable
		s = stubs[code]
	}
	status := statusLine(a.token, "not opened", "reason="+s.reason)
	v := mailseal.Stub(header, status, s.text)
	return &imapd.View{
		Content: v, Size: v.Size(), Tree: v.Tree(), Ref: ref,
		Keywords: []string{imapd.KeywordEncrypted, imapd.KeywordWarning},
		Stub:     true, Temporary: s.temporary,
		StubKey: strings.Join([]string{stubKeyVersion, code, ref}, " "),
	}
}

// shownStub gives the stub that was shown before under key.
func (a *account) shownStub(header []byte, key string) (*imapd.View, error) {
	f := strings.Split(key, " ")
	if len(f) != 3 || f[0] != stubKeyVersion {
		return nil, errors.New("the key of a stub is invalid")
	}
	if _, ok := stubs[f[1]]; !ok {
		return nil, errors.New("the key of a stub names an unknown reason")
	}
	return a.stubView(header, f[1], f[2]), nil
}
