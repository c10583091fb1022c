package mls

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// WireFormat is a value of the IANA registry "MLS Wire Formats".
type WireFormat uint16

// Wire formats (RFC 9420 section 17.2).
const (
	WirePublicMessage  WireFormat = 1
	WirePrivateMessage WireFormat = 2
	WireWelcome        WireFormat = 3
	WireGroupInfo      WireFormat = 4
	WireKeyPackage     WireFormat = 5
)

// Message is an MLSMessage (RFC 9420 section 6): what travels. It is immutable
// and safe for concurrent use; the slices that its methods return must not be
// changed.
type Message struct {
	wireFormat WireFormat
	public     *publicMessage
	private    *privateMessage
	welcome    *welcome
	groupInfo  *groupInfo
	keyPackage *KeyPackage
}

// ParseMessage decodes an MLSMessage of at most MaxMessage bytes. Bytes after
// it are refused. Nothing is verified: that is up to whoever uses the message.
// b is copied.
func ParseMessage(b []byte) (*Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("parse message: %d bytes, at most %d are allowed", len(b), MaxMessage)
	}
	m := new(Message)
	if err := decode(bytes.Clone(b), m); err != nil {
		return nil, fmt.Errorf("parse message: %w", err)
	}
	return m, nil
}

// MarshalBinary returns the encoding of the message. It never fails for a
// message that came from this package.
func (m *Message) MarshalBinary() ([]byte, error) {
	if m == nil || m.body() == nil {
		return nil, errors.New("marshal message: message is empty")
	}
	return encode(m), nil
}

func (m *Message) marshal(w *codec.Writer) {
	w.Uint16(uint16(MLS10))
	w.Uint16(uint16(m.wireFormat))
	m.body().marshal(w)
}

func (m *Message) body() marshaler {
	switch {
	case m.public != nil:
		return m.public
	case m.private != nil:
		return m.private
	case m.welcome != nil:
		return m.welcome
	case m.groupInfo != nil:
		return m.groupInfo
	case m.keyPackage != nil:
		return m.keyPackage
	}
	return nil
}

func (m *Message) unmarshal(r *codec.Reader) {
	if v := ProtocolVersion(r.Uint16()); r.Err() == nil && v != MLS10 {
		r.Fail(fmt.Errorf("unknown protocol version %d", v))
		return
	}
	m.wireFormat = WireFormat(r.Uint16())
	switch m.wireFormat {
	case WirePublicMessage:
		m.public = new(publicMessage)
		m.public.unmarshal(r)
	case WirePrivateMessage:
		m.private = new(privateMessage)
		m.private.unmarshal(r)
	case WireWelcome:
		m.welcome = new(welcome)
		m.welcome.unmarshal(r)
	case WireGroupInfo:
		m.groupInfo = new(groupInfo)
		m.groupInfo.unmarshal(r)
	case WireKeyPackage:
		m.keyPackage = new(KeyPackage)
		m.keyPackage.unmarshal(r)
		// RFC 9420 section 10: the versions must agree.
		if r.Err() == nil && m.keyPackage.version != MLS10 {
			r.Fail(invalid("10", "version of the key package differs from the message's"))
		}
	default:
		r.Fail(fmt.Errorf("unknown wire format %d", m.wireFormat))
	}
}

// WireFormat returns the kind of message.
func (m *Message) WireFormat() WireFormat { return m.wireFormat }

// Group returns the group and epoch of a PublicMessage, PrivateMessage or
// GroupInfo; ok is false for other messages. Nothing vouches for it before the
// message was processed.
func (m *Message) Group() (id GroupID, epoch Epoch, ok bool) {
	switch {
	case m.public != nil:
		return m.public.framed.groupID, m.public.framed.epoch, true
	case m.private != nil:
		return m.private.groupID, m.private.epoch, true
	case m.groupInfo != nil:
		return m.groupInfo.context.groupID, m.groupInfo.context.epoch, true
	}
	return "", 0, false
}

// ContentType returns what a PublicMessage or PrivateMessage carries; ok is
// false for other messages.
func (m *Message) ContentType() (t ContentType, ok bool) {
	switch {
	case m.public != nil:
		return m.public.framed.contentType, true
	case m.private != nil:
		return m.private.contentType, true
	}
	return 0, false
}

// AuthenticatedData returns the authenticated data of a PublicMessage or
// PrivateMessage, nil for others. It is readable by anyone, and nothing
// vouches for it before the message was processed.
func (m *Message) AuthenticatedData() []byte {
	switch {
	case m.public != nil:
		return bytes.Clone(m.public.framed.authenticatedData)
	case m.private != nil:
		return bytes.Clone(m.private.authenticatedData)
	}
	return nil
}

// WelcomeRefs returns the KeyPackages that a Welcome is for, nil for other
// messages.
func (m *Message) WelcomeRefs() []KeyPackageRef {
	if m.welcome == nil {
		return nil
	}
	refs := make([]KeyPackageRef, len(m.welcome.secrets))
	for i, s := range m.welcome.secrets {
		refs[i] = s.newMember
	}
	return refs
}

// KeyPackage returns the KeyPackage that the message holds.
func (m *Message) KeyPackage() (kp *KeyPackage, ok bool) {
	return m.keyPackage, m.keyPackage != nil
}
