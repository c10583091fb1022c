package provider

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Limits of an autoconfig file.
const (
	maxAutoconfig      = 64 << 10 // octets
	maxAutoconfigDepth = 16
	maxAutoconfigText  = 1 << 10 // octets of one value
)

// clientConfig is what is used of an autoconfig file.
type clientConfig struct {
	name          string
	incoming      []configServer // type imap
	outgoing      []configServer // type smtp
	documentation string
}

type configServer struct {
	hostname, port, socketType, username string
	authentication                       []string
}

// parseAutoconfig reads an autoconfig file, version 1.x. What it does not know
// it skips; document types, and with them entities, are refused.
func parseAutoconfig(b []byte) (*clientConfig, error) {
	if len(b) > maxAutoconfig {
		return nil, fmt.Errorf("the autoconfig file is larger than %d octets", maxAutoconfig)
	}
	p := &configParser{d: xml.NewDecoder(bytes.NewReader(b))}
	for {
		token, err := p.d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the autoconfig file is not valid XML: %w", err)
		}
		if err := p.token(token); err != nil {
			return nil, err
		}
	}
	if !p.seen {
		return nil, errors.New("the answer is not an autoconfig file")
	}
	return &p.config, nil
}

type configParser struct {
	d      *xml.Decoder
	path   []string
	text   strings.Builder
	config clientConfig
	server *configServer // of the element that is open
	seen   bool
	done   bool // one emailProvider was read
}

func (p *configParser) token(token xml.Token) error {
	switch t := token.(type) {
	case xml.Directive:
		return errors.New("the autoconfig file has a document type; such files are refused")
	case xml.StartElement:
		return p.start(t)
	case xml.EndElement:
		p.end()
	case xml.CharData:
		if p.text.Len()+len(t) > maxAutoconfigText {
			if len(strings.TrimSpace(string(t))) == 0 {
				return nil
			}
			return errors.New("a value in the autoconfig file is too long")
		}
		p.text.Write(t)
	}
	return nil
}

func (p *configParser) at() string { return strings.Join(p.path, "/") }

const providerPath = "clientConfig/emailProvider"

func (p *configParser) start(t xml.StartElement) error {
	if len(p.path) >= maxAutoconfigDepth {
		return errors.New("the autoconfig file is nested too deeply")
	}
	if len(p.path) == 0 && t.Name.Local != "clientConfig" {
		return errors.New("the answer is not an autoconfig file")
	}
	p.path = append(p.path, t.Name.Local)
	p.text.Reset()
	if p.done {
		return nil
	}
	kind := ""
	for _, a := range t.Attr {
		switch a.Name.Local {
		case "type":
			kind = a.Value
		case "version":
			if p.at() == "clientConfig" && !strings.HasPrefix(a.Value, "1.") {
				return fmt.Errorf("the autoconfig file has version %.20q, which is not known", a.Value)
			}
		case "url":
			if p.at() == providerPath+"/documentation" && p.config.documentation == "" && strings.HasPrefix(a.Value, "https://") {
				p.config.documentation = printable(a.Value)
			}
		}
	}
	switch p.at() {
	case "clientConfig":
		p.seen = true
	case providerPath + "/incomingServer":
		if strings.EqualFold(kind, "imap") {
			p.server = &configServer{}
		}
	case providerPath + "/outgoingServer":
		if strings.EqualFold(kind, "smtp") {
			p.server = &configServer{}
		}
	}
	return nil
}

func (p *configParser) end() {
	value := strings.TrimSpace(p.text.String())
	p.text.Reset()
	at := p.at()
	p.path = p.path[:len(p.path)-1]
	if p.done {
		return
	}
	switch at {
	case providerPath:
		p.done = true
	case providerPath + "/displayName":
		p.config.name = printable(value)
	case providerPath + "/incomingServer":
		if p.server != nil {
			p.config.incoming = append(p.config.incoming, *p.server)
		}
		p.server = nil
	case providerPath + "/outgoingServer":
		if p.server != nil {
			p.config.outgoing = append(p.config.outgoing, *p.server)
		}
		p.server = nil
	}
	if p.server == nil || len(p.path) != 3 {
		return
	}
	switch _, name, _ := strings.Cut(strings.TrimPrefix(at, providerPath+"/"), "/"); name {
	case "hostname":
		p.server.hostname = value
	case "port":
		p.server.port = value
	case "socketType":
		p.server.socketType = value
	case "username":
		p.server.username = value
	case "authentication":
		p.server.authentication = append(p.server.authentication, value)
	}
}

// printable makes foreign text fit for a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return strings.TrimSpace(s)
}
