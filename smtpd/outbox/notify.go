package outbox

// Notify is what a sender asked to be told about delivery (RFC 3461). The zero
// value asks for nothing.
type Notify struct {
	Return     string               `json:"return,omitempty"` // RET: FULL or HDRS
	EnvelopeID string               `json:"envelope_id,omitempty"`
	Recipients map[string]Recipient `json:"recipients,omitempty"` // by address, spelt as in the envelope
}

// Recipient is what was asked for one recipient.
type Recipient struct {
	When         []string `json:"when,omitempty"` // NOTIFY
	OriginalType string   `json:"original_type,omitempty"`
	Original     string   `json:"original,omitempty"` // ORCPT
}
