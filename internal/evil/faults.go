package evil

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Down: the request does not arrive.
func Down(e *Exchange, _ func()) { e.Status = 0 }

// LoseAnswer: the request is carried out and the connection breaks.
func LoseAnswer(e *Exchange, serve func()) {
	serve()
	e.Status = 0
}

// Twice: the request arrives twice; the second answer is the one that comes.
func Twice(_ *Exchange, serve func()) {
	serve()
	serve()
}

// Page answers with something that is not a key server's, such as a proxy's 404;
// the request does not arrive.
func Page(status int, contentType, body string) Act {
	return func(e *Exchange, _ func()) { e.answer(status, contentType, []byte(body)) }
}

// Empty is a 200 without a body.
func Empty(e *Exchange, _ func()) { e.answer(http.StatusOK, "application/json", nil) }

// Refuse answers with a true problem document of the API that is not true.
func Refuse(status int, code string) Act {
	return Say(status, keyapi.Problem{Status: status, Code: code})
}

// Say answers with a document of the API; the request does not arrive.
func Say(status int, v any) Act {
	return func(e *Exchange, _ func()) {
		kind := "application/json"
		if status >= 400 {
			kind = "application/problem+json"
		}
		e.answer(status, kind, encode(v))
	}
}

// Redirect sends the client elsewhere, with a status that keeps method and body.
func Redirect(url string) Act {
	return func(e *Exchange, _ func()) {
		e.answer(http.StatusTemporaryRedirect, "text/html", nil)
		e.Header.Set("Location", url)
	}
}

// Truncate cuts the answer off after n octets, as if it were all of it.
func Truncate(n int) Act {
	return func(e *Exchange, serve func()) {
		serve()
		e.Answered = bytes.Clone(e.Answered[:min(n, len(e.Answered))])
	}
}

// Hold keeps requests back until release is called, then carries them out. It
// tells on arrived about each one that it has hold of.
func Hold() (do Act, arrived <-chan struct{}, release func()) {
	in, gate := make(chan struct{}, 1024), make(chan struct{})
	do = func(e *Exchange, serve func()) {
		in <- struct{}{}
		select {
		case <-gate:
			serve()
		case <-e.Request.Context().Done():
			e.Status = 0
		}
	}
	return do, in, func() { close(gate) }
}

// Faults are the ways in which a key server fails to answer, by name; the request
// does not arrive in any of them.
func Faults() map[string]Act {
	return map[string]Act{
		"down":                   Down,
		"a proxy's 404":          Page(http.StatusNotFound, "text/html", "<html>not here</html>"),
		"an API's 404":           Refuse(http.StatusNotFound, keyapi.CodeNoRoute),
		"not found":              Refuse(http.StatusNotFound, keyapi.CodeNotFound),
		"a page with 500":        Page(http.StatusInternalServerError, "text/plain", "oops"),
		"internal":               Refuse(http.StatusInternalServerError, keyapi.CodeInternal),
		"unavailable":            Refuse(http.StatusServiceUnavailable, keyapi.CodeUnavailable),
		"nothing with 200":       Empty,
		"a page with 200":        Page(http.StatusOK, "text/html", "<html>sign in to the hotel's network</html>"),
		"garbage with 200":       Page(http.StatusOK, "application/json", "{]\x00"),
		"another JSON with 200":  Page(http.StatusOK, "application/json", `{"hello":"world"}`),
		"an empty JSON with 200": Page(http.StatusOK, "application/json", "{}"),
		"no content":             Page(http.StatusNoContent, "", ""),
		"redirect":               Redirect("http://127.0.0.1:9/elsewhere"),
	}
}

func (e *Exchange) answer(status int, contentType string, body []byte) {
	e.Status, e.Header, e.Answered = status, http.Header{}, body
	if contentType != "" {
		e.Header.Set("Content-Type", contentType)
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("evil: encode %T: %v", v, err)) // a mistake of the test
	}
	return b
}
