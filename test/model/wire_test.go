//go:build crashpoints && weakkdf

package model

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
)

// wire carries a device's requests to the key server, in this process: the
// server's own handler answers, and what goes wrong on the way goes wrong here.
type wire struct{ d *device }

var errNetwork = errors.New("model: the network failed")

// letter is a request that can be sent again.
type letter struct {
	method, url string
	header      http.Header
	body        []byte
	by          *device
	blur        func() // what may happen with it
}

func (l *letter) request() *http.Request {
	r := httptest.NewRequest(l.method, l.url, bytes.NewReader(l.body))
	r.Header = l.header.Clone()
	r.RemoteAddr = "192.0.2.1:1000"
	return r
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	l := &letter{method: r.Method, url: r.URL.String(), header: r.Header.Clone(), by: w.d}
	if r.Body != nil {
		var err error
		if l.body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	f := w.d.frame
	if f == nil {
		return w.d.w.serve(l, r)
	}
	at := f.requests
	f.requests++
	l.blur = f.blur
	do := map[string]bool{}
	for _, x := range f.step.Faults {
		if x.At == at || x.Kind == offline && x.At <= at {
			do[x.Kind] = true
		}
	}
	if len(do) == 0 {
		return w.serve(f, l, r)
	}
	f.note("request %d %s %s: %v", at, r.Method, r.URL.Path, do)
	for kind := range do {
		w.d.w.counts[kind]++
	}
	if do[meanwhile] {
		w.d.w.inside(f)
	}
	switch {
	case do[lost], do[offline]:
		f.troubled = true
		return nil, errNetwork
	case do[delayed]:
		f.troubled = true
		w.d.w.delayed = append(w.d.w.delayed, l)
		return nil, errNetwork
	case do[refused]:
		f.troubled = true
		rec := httptest.NewRecorder()
		rec.WriteHeader(http.StatusBadGateway)
		rec.WriteString("<html>the server is being repaired</html>")
		return rec.Result(), nil
	}
	answer, err := w.serve(f, l, r)
	if do[twice] {
		f.troubled = true
		answer, err = w.d.w.serve(l, r)
	}
	if do[unanswered] {
		f.troubled = true
		return nil, errNetwork
	}
	if do[meanwhileAfter] {
		w.d.w.inside(f)
	}
	return answer, err
}

// serve has the key server answer an operation.
func (w *wire) serve(f *frame, l *letter, r *http.Request) (*http.Response, error) {
	answer, err := w.d.w.serve(l, r)
	if err == nil && r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/delivery/") {
		f.synced = true
	}
	if err == nil && answer.StatusCode == http.StatusUnauthorized && strings.HasSuffix(r.URL.Path, "/refresh") {
		f.ended = true // it cannot ask for anything, and reads what it has
	}
	return answer, err
}

// serve has the key server answer. One that crashes meanwhile is there again at
// the next request, with what is in its file.
func (w *world) serve(l *letter, r *http.Request) (answer *http.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				panic(v)
			}
			answer, err = nil, errNetwork
			if f := l.by.frame; f != nil {
				f.troubled = true
			}
		}
	}()
	if w.liar != nil {
		if answer, err = w.liar.answer(l); err != nil {
			if f := l.by.frame; f != nil {
				f.troubled = true
			}
			return nil, err
		}
	} else {
		rec := httptest.NewRecorder()
		w.server.ServeHTTP(rec, l.request())
		answer = rec.Result()
	}
	answer.Request = r
	// A transaction with a member of that name, in either encoding.
	if answer.StatusCode == http.StatusOK && strings.HasSuffix(r.URL.Path, "/tx") && bytes.Contains(l.body, []byte("commit")) {
		w.submitted++
	}
	return answer, nil
}
