package keyserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
)

// docsStyle is the only thing that the page of /docs has besides text: no
// script, nothing of another host.
const docsStyle = `body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}code,pre{font-family:monospace}` +
	`h2{border-top:1px solid #ccc;padding-top:1em;font-size:1.1em}td,th{padding:.1em 1em .1em 0;text-align:left;vertical-align:top}`

const docsPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title><style>{{.Style}}</style></head><body>
<h1>{{.Title}}</h1><p>{{.Description}} The whole document, for programs: <a href="/openapi.json">/openapi.json</a>.</p>
<ul>{{range .Routes}}<li><a href="#{{.ID}}"><code>{{.Method}} {{.Path}}</code></a></li>{{end}}</ul>
{{range .Routes}}<h2 id="{{.ID}}"><code>{{.Method}} {{.Path}}</code></h2>
<table>{{if .Token}}<tr><th>needs</th><td>an access token</td></tr>{{end}}
{{range .Parameters}}<tr><th>{{.In}}</th><td><code>{{.Name}}</code> {{.Doc}}</td></tr>{{end}}
{{if .Body}}<tr><th>body</th><td><a href="#{{.Body}}">{{.Body}}</a></td></tr>{{end}}
<tr><th>answer</th><td>{{if .Answer}}<a href="#{{.Answer}}">{{.Answer}}</a>{{else}}204, nothing{{end}}</td></tr></table>
{{end}}{{range .Types}}<h2 id="{{.Name}}">{{.Name}}</h2><table>
{{range .Members}}<tr><td><code>{{.Name}}</code>{{if .Required}} *{{end}}</td><td>{{.Type}}</td></tr>{{end}}</table>
{{end}}<p>* always there</p></body></html>
`

type docsRoute struct {
	ID, Method, Path, Body, Answer string
	Token                          bool
	Parameters                     []docsParameter
}

type docsParameter struct{ In, Name, Doc string }

type docsType struct {
	Name    string
	Members []docsMember
}

type docsMember struct {
	Name, Type string
	Required   bool
}

// addDocs serves the OpenAPI document and, made from it, /docs. Both are made when
// one is first asked for: most servers of tests are asked for neither.
func (s *Server) addDocs(r chi.Router, api *huma.OpenAPI) {
	tellCBOR(api)
	document := sync.OnceValues(func() ([]byte, error) { return json.Marshal(api) })
	s.serveDocs(r, "/openapi.json", document, http.Header{"Content-Type": {"application/openapi+json"}})
	hash := sha256.Sum256([]byte(docsStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	page := sync.OnceValues(func() ([]byte, error) { return makePage(api) })
	s.serveDocs(r, "/docs", page, http.Header{
		"Content-Type": {"text/html; charset=utf-8"}, "Content-Security-Policy": {policy}, "Referrer-Policy": {"no-referrer"},
	})
}

func (s *Server) serveDocs(r chi.Router, path string, made func() ([]byte, error), header http.Header) {
	r.Get(path, func(w http.ResponseWriter, _ *http.Request) {
		b, err := made()
		if err != nil {
			writeProblem(w, s.asProblem("GET "+path, err).(*problem))
			return
		}
		maps.Copy(w.Header(), header)
		// The client is gone if this fails; there is nobody to tell.
		_, _ = w.Write(b)
	})
}

func makePage(api *huma.OpenAPI) ([]byte, error) {
	page, err := template.New("docs").Parse(docsPage)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = page.Execute(&b, map[string]any{
		"Title": api.Info.Title, "Description": api.Info.Description, "Style": template.CSS(docsStyle),
		"Routes": docsRoutes(api), "Types": docsTypes(api),
	})
	return b.Bytes(), err
}

// tellCBOR adds the second form of all bodies to the document.
func tellCBOR(api *huma.OpenAPI) {
	both := func(content map[string]*huma.MediaType) {
		delete(content, "application/octet-stream") // what huma makes of RawBody
		if json := content["application/json"]; json != nil {
			content[mediaCBOR] = json
		}
	}
	for _, item := range api.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Delete} {
			if op == nil {
				continue
			}
			if op.RequestBody != nil {
				both(op.RequestBody.Content)
			}
			for _, answer := range op.Responses {
				both(answer.Content)
			}
		}
	}
}

func docsRoutes(api *huma.OpenAPI) []docsRoute {
	var all []docsRoute
	for path, item := range api.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			route := docsRoute{ID: op.OperationID, Method: method, Path: path, Token: len(op.Security) > 0}
			for _, p := range op.Parameters {
				route.Parameters = append(route.Parameters, docsParameter{p.In, p.Name, p.Description})
			}
			if op.RequestBody != nil {
				route.Body = docsRef(op.RequestBody.Content)
			}
			if ok := op.Responses["200"]; ok != nil {
				route.Answer = docsRef(ok.Content)
			}
			all = append(all, route)
		}
	}
	slices.SortFunc(all, func(a, b docsRoute) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
	return all
}

func docsRef(content map[string]*huma.MediaType) string {
	if m := content["application/json"]; m != nil && m.Schema != nil {
		return m.Schema.Ref[strings.LastIndexByte(m.Schema.Ref, '/')+1:]
	}
	return ""
}

func docsTypes(api *huma.OpenAPI) []docsType {
	var all []docsType
	for name, schema := range api.Components.Schemas.Map() {
		t := docsType{Name: name}
		for member, m := range schema.Properties {
			t.Members = append(t.Members, docsMember{member, docsTypeName(m), slices.Contains(schema.Required, member)})
		}
		slices.SortFunc(t.Members, func(a, b docsMember) int { return strings.Compare(a.Name, b.Name) })
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b docsType) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func docsTypeName(s *huma.Schema) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Items != nil:
		return "list of " + docsTypeName(s.Items)
	case s.ContentEncoding != "" || s.Format != "":
		return strings.TrimSpace(s.Type + " " + s.ContentEncoding + " " + s.Format)
	}
	return s.Type
}
