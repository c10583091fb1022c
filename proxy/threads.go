package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// threadDomain is the right side of the References token that carries a
// group's conversation id outside. A mail program that answers the ciphertext
// itself copies it, and so names the conversation.
const threadDomain = "conversation.cloudmls"

// threadEntry is what is known of an encrypted message by its Message-ID.
type threadEntry struct {
	Version      int        `json:"v"`
	Conversation groupid.ID `json:"conversation,omitzero"`
}

// threads remembers which messages were encrypted and in which conversation:
// all that this device sent or opened. It is sealed in the local cache.
type threads struct {
	cache *cloudmls.Cache
}

func threadKey(messageID string) string {
	sum := sha256.Sum256([]byte(strings.Trim(messageID, "<> \t\r\n")))
	return hex.EncodeToString(sum[:])
}

// noteLater remembers a message. The first conversation of a Message-ID stays,
// unless the message is our own: nobody else moves a thread to another one. The
// zero conversation says that the message was encrypted and no more.
// It is durable after Settle.
func (t *threads) noteLater(messageID string, conversation groupid.ID, own bool) error {
	if strings.Trim(messageID, "<> ") == "" {
		return nil
	}
	if !own {
		e, ok, err := t.get(messageID)
		if err != nil || ok && (!e.Conversation.IsZero() || conversation.IsZero()) {
			return err
		}
	}
	b, err := json.Marshal(threadEntry{Version: 1, Conversation: conversation})
	if err != nil {
		return fmt.Errorf("note a thread: %w", err)
	}
	if err := t.cache.Defer(threadKey(messageID), b); err != nil {
		return fmt.Errorf("note a thread: %w", err)
	}
	return nil
}

func (t *threads) get(messageID string) (threadEntry, bool, error) {
	b, err := t.cache.Get(threadKey(messageID))
	if err != nil || b == nil {
		if err != nil {
			err = fmt.Errorf("look up a thread: %w", err)
		}
		return threadEntry{}, false, err
	}
	var e threadEntry
	if err := json.Unmarshal(b, &e); err != nil || e.Version != 1 {
		// It was written, so the message was encrypted; that is what counts.
		return threadEntry{}, true, nil
	}
	return e, true, nil
}

// thread is what a message's references say of where it belongs.
type thread struct {
	// sealed: at least one of the messages it refers to was encrypted.
	sealed bool
	// conversations, the closest reference first, without repetitions.
	conversations []groupid.ID
}

// find looks up what a message refers to: In-Reply-To first, then References
// from the last to the first. known tells which conversations are ours: a token
// of another one means nothing.
func (t *threads) find(inReplyTo, references []string, known func(groupid.ID) (bool, error)) (thread, error) {
	refs := make([]string, 0, len(inReplyTo)+len(references))
	refs = append(refs, inReplyTo...)
	for i := len(references) - 1; i >= 0; i-- {
		refs = append(refs, references[i])
	}
	var th thread
	seen := make(map[groupid.ID]bool)
	add := func(id groupid.ID) {
		if !id.IsZero() && !seen[id] {
			seen[id] = true
			th.conversations = append(th.conversations, id)
		}
	}
	for _, ref := range refs {
		if id, ok := conversationToken(ref); ok {
			ours, err := known(id)
			if err != nil {
				return thread{}, err
			}
			if ours {
				th.sealed = true
				add(id)
			}
			continue
		}
		e, ok, err := t.get(ref)
		if err != nil {
			return thread{}, err
		}
		if ok {
			th.sealed = true
			add(e.Conversation)
		}
	}
	return th, nil
}

// conversationToken reads a References token; see threadToken.
func conversationToken(messageID string) (groupid.ID, bool) {
	left, right, _ := strings.Cut(strings.Trim(messageID, "<> \t"), "@")
	if right != threadDomain {
		return groupid.ID{}, false
	}
	id, err := groupid.Parse(left)
	return id, err == nil
}

// threadToken is the msg-id (RFC 5322 section 3.6.4) that names a conversation.
func threadToken(id groupid.ID) string { return "<" + id.String() + "@" + threadDomain + ">" }

// tokenAlphabet has 32 letters and digits that are hard to mistake.
const tokenAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// subjectToken is the 8-character token in the outer Subject. All messages of
// a thread have the same one, so that providers thread by subject as people
// do; it says nothing that the outer References do not say.
func subjectToken(conversation groupid.ID, root string) string {
	h := sha256.New()
	h.Write([]byte("cloudmls/1 subject token"))
	h.Write(conversation[:])
	h.Write([]byte(strings.Trim(root, "<> ")))
	sum := h.Sum(nil)
	b := make([]byte, 8)
	for i := range b {
		b[i] = tokenAlphabet[sum[i]&31]
	}
	return string(b)
}
