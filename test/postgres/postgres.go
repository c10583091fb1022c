// Package postgres starts a throw-away PostgreSQL for tests: Debian's server
// (test/postgres/install), in a temporary folder, on a unix socket, with fsync
// on. As root it runs the server as the user "postgres", since the server
// refuses to be root.
package postgres

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a running PostgreSQL. Its methods are for one goroutine at a time.
type Server struct {
	bin, folder, password string
	as                    *syscall.SysProcAttr
	databases             int
}

// Start makes a cluster and starts its server. Whoever starts one stops it.
func Start() (*Server, error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return nil, errors.Join(errors.New("PostgreSQL is not installed: run test/postgres/install"), err)
	}
	slices.SortFunc(bins, func(a, b string) int { return version(a) - version(b) })
	s := &Server{bin: bins[len(bins)-1], password: rand.Text()}
	if s.folder, err = os.MkdirTemp("", "pg"); err != nil { // a short path: it holds a socket
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.folder))
	}
	return s, nil
}

func version(bin string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return n
}

func (s *Server) start() error {
	if err := s.giveAway(); err != nil {
		return err
	}
	secret := filepath.Join(s.folder, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o644); err != nil { // in a folder of 0700
		return err
	}
	init := []string{"-D", s.data(), "-U", "keyserver", "--auth=scram-sha-256", "--pwfile=" + secret, "-E", "UTF8", "--locale=C", "--no-sync"}
	if err := s.run("initdb", init...); err != nil {
		return err
	}
	conf := fmt.Sprintf("listen_addresses = ''\nunix_socket_directories = '%s'\nfsync = on\nmax_connections = 200\nshared_buffers = 64MB\n", s.folder)
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(conf)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.Up()
}

// giveAway hands the folder to the user that the server runs as.
func (s *Server) giveAway() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL refuses to run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return os.Chown(s.folder, int(uid), int(gid))
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

func (s *Server) run(program string, args ...string) error {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.SysProcAttr, cmd.Dir = s.as, s.folder
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// The server inherits the output: without a limit Wait would last as long as it.
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		log, _ := os.ReadFile(filepath.Join(s.folder, "log")) // better than nothing, if there is one
		return fmt.Errorf("%s: %w\n%s%s", program, err, out.Bytes(), log)
	}
	return nil
}

// Up starts the server and returns when it answers.
func (s *Server) Up() error {
	return s.run("pg_ctl", "-D", s.data(), "-l", filepath.Join(s.folder, "log"), "-w", "-t", "60", "start")
}

// Crash ends the server as a power cut would: without a checkpoint. Up recovers.
func (s *Server) Crash() error {
	return s.run("pg_ctl", "-D", s.data(), "-m", "immediate", "-w", "stop")
}

// Down ends the server in good order, with its connections.
func (s *Server) Down() error { return s.run("pg_ctl", "-D", s.data(), "-m", "fast", "-w", "stop") }

// Stop ends the server and removes everything.
func (s *Server) Stop() error {
	err := s.Crash()
	return errors.Join(err, os.RemoveAll(s.folder))
}

// DSN is the connection string of a database.
func (s *Server) DSN(database string) string {
	q := url.Values{"host": {s.folder}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("keyserver", s.password), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// NewDatabase makes an empty database and gives its connection string.
func (s *Server) NewDatabase() (string, error) {
	s.databases++
	name := "test" + strconv.Itoa(s.databases)
	return s.DSN(name), s.SQL("postgres", "CREATE DATABASE "+name)
}

// SQL runs statements with psql, as the superuser.
func (s *Server) SQL(database, statements string) error {
	cmd := exec.Command(filepath.Join(s.bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1")
	cmd.Env = append(os.Environ(), "PGHOST="+s.folder, "PGUSER=keyserver", "PGDATABASE="+database, "PGPASSWORD="+s.password)
	cmd.Stdin = strings.NewReader(statements)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("psql: %w\n%s", err, out)
	}
	return nil
}

// CPU is what the server has spent on the processors since it was started, all
// of its processes together.
func (s *Server) CPU() (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find the server: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	leader, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("find the server: %w", err)
	}
	var sum time.Duration
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended, and is counted with its parent
		}
		_, rest, _ := strings.Cut(string(b), ") ") // proc(5); the name may have blanks
		f := strings.Fields(rest)
		if len(f) < 15 {
			continue
		}
		own := strings.TrimPrefix(filepath.Dir(name), "/proc/") == strconv.Itoa(leader)
		switch {
		case own:
			sum += ticks(f[11], f[12], f[13], f[14]) // with children that have ended
		case f[1] == strconv.Itoa(leader):
			sum += ticks(f[11], f[12])
		}
	}
	return sum, nil
}

// ticks adds up times of /proc, which has them in hundredths of a second.
func ticks(fields ...string) (sum time.Duration) {
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err == nil {
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
