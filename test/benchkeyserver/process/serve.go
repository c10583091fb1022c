package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/keyserver/pgstore"
)

// MaybeServe is a server, and does not return, in a process that Start made. In
// others it does nothing.
func MaybeServe() {
	b := os.Getenv(environment)
	if b == "" {
		return
	}
	if err := serve([]byte(b)); err != nil {
		tell(hello{Err: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

func tell(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own types
	}
	fmt.Println(string(b))
}

func serve(config []byte) error {
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		return err
	}
	defer keyserver.LessCollecting(keyserver.GarbageRoom)() // as the program does
	if c.Exchange {
		return c.serveExchange()
	}
	begin := time.Now()
	store, err := c.Open()
	if err != nil {
		return err
	}
	opened := time.Since(begin)
	o := Server(store)
	o.Limits = c.Limits
	s, err := keyserver.New(o)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, store.Close())
	}
	h := keyserver.HTTPServer(s, nil)
	served := make(chan error, 1)
	go func() { served <- h.Serve(s.Listener(ln)) }()
	tell(hello{Address: ln.Addr().String(), Open: opened})
	err = c.answer(nil)
	err = errors.Join(err, s.Close(), h.Close())
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return errors.Join(err, store.Close())
}

// Server gives the options of the servers that Start makes, for the preparation
// of their stores by the parent.
func Server(store keyserver.Store) keyserver.Options {
	return keyserver.Options{
		Store: store, Origin: keyservertest.Origin, TokenKey: keyservertest.TokenKey(), Pepper: keyservertest.Pepper(),
		TokenLifetime: 6 * time.Hour, Limits: keyservertest.Unlimited(),
	}
}

// Open opens the store, which one process at a time can do where it is a file.
func (c *Config) Open() (keyserver.Store, error) {
	if c.File != "" {
		return boltstore.Open(c.File)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return pgstore.Open(ctx, pgstore.Options{DSN: c.DSN, MaxConns: c.MaxConns})
}

// answer answers the parent's questions until it closes the pipe, or is gone; e
// is nil in a key server.
func (c *Config) answer(e *exchange) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if size, ok := strings.CutPrefix(in.Text(), "answer "); ok && e != nil {
			tell(message(e.setSize(size)))
			continue
		}
		switch in.Text() {
		case "memory":
			debug.FreeOSMemory()
			tell(measure())
		case "peak":
			tell(measure())
		case "profile":
			tell(message(c.startProfile()))
		case "profiled":
			pprof.StopCPUProfile()
			tell("")
		}
	}
	return in.Err()
}

func message(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func (c *Config) startProfile() error {
	f, err := os.Create(c.Profile)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f) // the file is closed with the process
}

func measure() Memory {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		panic(err) // cannot happen with this argument
	}
	return Memory{
		Heap: int64(m.HeapAlloc), Stack: int64(m.StackInuse), Sys: int64(m.Sys - m.HeapReleased), Goroutines: runtime.NumGoroutine(),
		CPU: time.Duration(use.Utime.Nano() + use.Stime.Nano()),
	}
}
