package pgstore

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// FuzzParseTopics: whoever may notify on the channel can write anything into a
// payload. What is read of it are topics, in their order, and no more than fit.
func FuzzParseTopics(f *testing.F) {
	one := keyserver.AccountTopic(keyapi.Account{Platform: "email", ID: "a@example.org"})
	two := keyserver.SessionTopic(keyserver.SessionID{1})
	word := func(t keyserver.Topic) string { return base64.RawURLEncoding.EncodeToString(t[:]) }
	f.Add("")
	f.Add(word(one))
	f.Add(word(one) + " " + word(two))
	f.Add(word(one) + " 2:future " + word(two)[:21] + "\x00 " + word(two))
	f.Add(strings.Repeat(word(one)+" ", perPayload))
	f.Add("====== \xff\xfe \u2028" + word(two))
	f.Fuzz(func(t *testing.T, payload string) {
		topics := parseTopics(payload)
		if 22*len(topics) > len(payload) {
			t.Fatalf("%d topics in %d octets", len(topics), len(payload))
		}
		words := strings.Fields(payload)
		for _, topic := range topics {
			for len(words) > 0 {
				b, err := base64.RawURLEncoding.DecodeString(words[0])
				words = words[1:]
				if err == nil && len(b) == len(topic) {
					if keyserver.Topic(b) != topic {
						t.Fatalf("%x for %x", topic, b)
					}
					break
				}
			}
		}
		// What was read is read again as it is.
		var again []string
		for _, topic := range topics {
			again = append(again, word(topic))
		}
		for i, topic := range parseTopics(strings.Join(again, " ")) {
			if topic != topics[i] {
				t.Fatalf("topic %d changed", i)
			}
		}
	})
}

// A hint of another version does not keep the topics around it from being heard.
func TestTopicsOfOtherVersionsAreLeftOut(t *testing.T) {
	one := keyserver.SessionTopic(keyserver.SessionID{1})
	word := base64.RawURLEncoding.EncodeToString(one[:])
	got := parseTopics("v2 " + word + " " + word + "AA !" + word[1:] + " " + word)
	if len(got) != 2 || got[0] != one || got[1] != one {
		t.Errorf("topics %x", got)
	}
}
