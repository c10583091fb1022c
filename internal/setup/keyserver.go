package setup

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
)

// localPort is where a local key server listens if nothing else does.
const localPort = 8443

// decideKeyServer finds out which key server holds the user's state, and
// whether it is there.
func (r *run) decideKeyServer(ctx context.Context) error {
	v := r.Values
	if r.old != nil && r.g.KeyServer.URL != "" {
		if v.KeyServer != "" && strings.TrimSuffix(v.KeyServer, "/") != strings.TrimSuffix(r.g.KeyServer.URL, "/") || v.LocalKeyServer && r.g.KeyServer.Local == "" {
			return fmt.Errorf("this device belongs to the user %s at %s; for another key server set up another one: --config FILE --data-dir FOLDER", r.g.User.Name, r.g.KeyServer.URL)
		}
		r.localFile = r.g.KeyServer.Local
		return nil
	}
	if v.KeyServer == "" && !v.LocalKeyServer {
		answer, err := r.ask("address of the key server (\"local\" starts one on this machine)", "", "keyserver URL or --local-keyserver")
		if err != nil {
			return err
		}
		v.KeyServer, v.LocalKeyServer = answer, answer == "local"
	}
	if v.LocalKeyServer {
		return r.local()
	}
	if !strings.Contains(v.KeyServer, "://") {
		v.KeyServer = "https://" + v.KeyServer // what people mean by a name alone
	}
	r.g.KeyServer = config.KeyServer{URL: v.KeyServer, Origin: v.KeyServer, CAFile: v.KeyServerCA}
	remote, err := device.Remote(r.g)
	if err != nil {
		return fmt.Errorf("key server %s: %w", v.KeyServer, err)
	}
	r.Progress("asking the key server %s ...", v.KeyServer)
	info, err := remote.Server(ctx)
	if err != nil {
		return fmt.Errorf("key server %s: %w%s", v.KeyServer, err, nextWith(err))
	}
	if strings.TrimSuffix(info.Origin, "/") != strings.TrimSuffix(v.KeyServer, "/") {
		return fmt.Errorf("the key server at %s calls itself %s: everything is bound to that name, so pass --keyserver %s", v.KeyServer, info.Origin, info.Origin)
	}
	r.g.KeyServer.Origin, r.registration = info.Origin, info.Registration
	r.change("", config.Set(v.KeyServer, "keyserver", "url"))
	if v.KeyServerCA != "" {
		r.change("", config.Set(v.KeyServerCA, "keyserver", "ca_file"))
	}
	return nil
}

// nextWith is what to do about a key server that did not answer as one does.
func nextWith(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.As(err, &authority):
		return " (if it is a server that you know, name its authority's certificate with --keyserver-ca, else somebody may be in between)"
	case errors.As(err, &host):
		return " (use the name that its operator gave you, never go on)"
	case errors.As(err, &dns):
		return " (check its spelling; is this machine online?)"
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, context.DeadlineExceeded):
		return " (check address and port; is it running, and is this machine online?)"
	case device.Refused(err):
		return ""
	}
	return " (is a key server there? It looks like https://keys.example.org, without TLS on this machine only)"
}

// local prepares a key server beside the gateway. Its configuration lies beside
// the gateway's; one that is there already is used as it is.
func (r *run) local() error {
	file, err := filepath.Abs(filepath.Join(filepath.Dir(r.ConfigFile), "keyserver.toml"))
	if err != nil {
		return err
	}
	url := ""
	switch k, err := config.LoadKeyServer(file); {
	case err == nil:
		url = k.Origin
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		dir, err := r.dataDir()
		if err != nil {
			return err
		}
		listen, err := freePort(localPort)
		if err != nil {
			return err
		}
		url = "http://" + listen
		r.localText = fmt.Appendf(nil, "# The key server beside the gateway. 'cloudmls config reference keyserver' explains every key.\nlisten = %q\norigin = %q\ndata_file = %q\n",
			listen, url, filepath.Join(dir, "keyserver", "keyserver.db"))
		r.did = append(r.did, "a key server of your own, started and ended with the gateway: "+file)
	}
	r.localFile = file
	r.g.KeyServer = config.KeyServer{URL: url, Origin: url, Local: file}
	r.change("", config.Set(url, "keyserver", "url"), config.Set(file, "keyserver", "local"))
	return nil
}

// freePort finds a loopback port that nobody listens on, the wanted one first.
func freePort(want int) (string, error) {
	for port := want; port < want+100; port++ {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, ln.Close()
		}
	}
	return "", fmt.Errorf("no port of 127.0.0.1 from %d to %d is free", want, want+99)
}

// dataDir is the device's folder.
func (r *run) dataDir() (string, error) {
	if r.g.DataDir != "" {
		return r.g.DataDir, nil
	}
	dir := r.Values.DataDir
	if dir == "" {
		var err error
		if dir, err = config.DefaultDataDir(r.Getenv); err != nil {
			return "", err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return "", fmt.Errorf("data folder %s is not a folder", dir)
	}
	r.g.DataDir = dir
	return dir, nil
}
