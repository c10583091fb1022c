package benchkeyserver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"
)

// wire is one HTTP/1.1 connection of a client that does as little as it can:
// client and server share the processors, and the server is what is measured.
type wire struct {
	address string
	c       net.Conn // from the first request on: the server waits for that for 10 s
	r       *bufio.Reader
	out     bytes.Buffer
	got     int // octets of the last answer
}

func (w *wire) dial() (err error) {
	if w.c == nil {
		if w.c, err = net.DialTimeout("tcp", w.address, time.Minute); err == nil {
			w.r = bufio.NewReader(w.c)
		}
	}
	return err
}

func (w *wire) close() {
	if w.c != nil {
		_ = w.c.Close()
	}
}

// send writes one request.
func (w *wire) send(method, path, token string, body []byte) error {
	if err := w.dial(); err != nil {
		return err
	}
	w.out.Reset()
	fmt.Fprintf(&w.out, "%s %s HTTP/1.1\r\nHost: keys.test.example\r\nAccept: application/cbor\r\nAuthorization: Bearer %s\r\n", method, path, token)
	if method != "GET" {
		fmt.Fprintf(&w.out, "Content-Type: application/cbor\r\nContent-Length: %d\r\n", len(body))
	}
	w.out.WriteString("\r\n")
	w.out.Write(body)
	_, err := w.c.Write(w.out.Bytes())
	return err
}

// ask sends a request and reads an answer of status 200.
func (w *wire) ask(method, path, token string, body []byte) (answer []byte, err error) {
	if err := w.dial(); err != nil {
		return nil, err
	}
	if err := w.c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return nil, err
	}
	if err := w.send(method, path, token, body); err != nil {
		return nil, err
	}
	status, answer, err := w.receive()
	w.got = len(answer)
	if err == nil && status != 200 {
		err = fmt.Errorf("%s %s: status %d: %s", method, path, status, answer)
	}
	return answer, err
}

func (w *wire) receive() (status int, body []byte, err error) {
	line, err := w.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, err
	}
	length, chunked := -1, false
	for {
		if line, err = w.r.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return 0, nil, err
			}
		}
		chunked = chunked || bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked"))
	}
	switch {
	case chunked:
		if body, err = io.ReadAll(httputil.NewChunkedReader(w.r)); err == nil {
			_, err = w.r.Discard(2) // the line behind the last chunk
		}
	case length >= 0:
		body = make([]byte, length)
		_, err = io.ReadFull(w.r, body)
	case status != 204:
		err = fmt.Errorf("answer of status %d without a length", status)
	}
	return status, body, err
}
