package hostile

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestHostileTokenFlood: thousands of tokens that are none, of every make, cost a
// refusal each.
func TestHostileTokenFlood(t *testing.T) {
	server := start(t)
	p := newPerson(t, client(t, server), "holder")
	parts := strings.Split(p.token, ".")
	encode := base64.RawURLEncoding.EncodeToString
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	signature[0] ^= 1
	tokens := []string{
		strings.Repeat(".", 5<<10),
		strings.Repeat(".", 4<<10),
		strings.Repeat("e30.", 1_000),
		strings.Repeat("A", 4<<10),
		parts[0] + "." + parts[1] + "." + encode(signature), // as dear as a token can be
		parts[0] + "." + parts[1] + ".",
		encode([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + parts[1] + ".",
		encode([]byte(`{"alg":"EdDSA","typ":"at+jwt","kid":"nobody knows it"}`)) + "." + parts[1] + "." + parts[2],
		encode([]byte(strings.Repeat("[", 2_000))) + "." + parts[1] + "." + parts[2],
	}
	before := memory(t, server)
	done := neighbours(t, server)
	const workers, each = 16, 400
	var wg sync.WaitGroup
	for w := range workers {
		c := mustDial(t, server, w, 1)
		wg.Go(func() {
			r := bufio.NewReader(c)
			for i := range each {
				if _, err := fmt.Fprintf(c, "GET /v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", tokens[(w+i)%len(tokens)]); err != nil {
					t.Error(err)
					return
				}
				status, problem, err := answer(t, c, r)
				if err != nil || status != http.StatusUnauthorized || problem.Code != keyapi.CodeUnauthorized {
					t.Errorf("token %d: %d %+v %v", (w+i)%len(tokens), status, problem, err)
					return
				}
			}
		})
	}
	wg.Wait()
	bounded(t, fmt.Sprintf("%d bad tokens", workers*each), server, before, 16<<20)
	done()
}
