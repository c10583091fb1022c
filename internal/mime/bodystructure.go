package mime

import (
	"bytes"
	"strings"
)

// BodyStructure returns the body structure of the message whose root is p.
func (p *Part) BodyStructure() *BodyStructure {
	bs := p.structure()
	if bs.isDefault() {
		bs.Type, bs.Subtype, bs.Encoding = []byte("text"), []byte("plain"), []byte("7bit")
		bs.Params = nil
		bs.defaultCharset()
	}
	return bs
}

// isDefault reports whether the structure says no more than a message without
// MIME fields does. Then it is given as for such a message, whatever the case
// of its words.
func (bs *BodyStructure) isDefault() bool {
	return bs.Text && bytes.EqualFold(bs.Subtype, []byte("plain")) &&
		len(bs.Params) == 1 && bytes.EqualFold(bs.Params[0].Name, []byte("charset")) &&
		bytes.EqualFold(bs.Params[0].Value, []byte("us-ascii")) &&
		bytes.EqualFold(bs.Encoding, []byte("7bit")) &&
		bs.ID == nil && bs.Description == nil && bs.MD5 == nil && bs.Disposition == nil &&
		bs.Language == nil && bs.Location == nil
}

func (p *Part) structure() *BodyStructure {
	bs := p.own()
	for _, c := range p.Children {
		bs.Children = append(bs.Children, c.structure())
	}
	if p.Message && len(p.Children) == 1 {
		env := p.Children[0].Envelope()
		bs.Envelope = &env
		bs.Body, bs.Children = bs.Children[0], nil
	}
	return bs
}

// own returns what the part itself says, without what is below it.
func (p *Part) own() *BodyStructure {
	bs := &BodyStructure{Multipart: p.Multipart, Size: p.BodyLength, Lines: p.Lines}
	if p.mime {
		bs.readHeader(p.Header)
	}
	switch {
	case p.Message:
		bs.Type, bs.Subtype = []byte("message"), []byte("rfc822")
	case bs.Type == nil:
		bs.Type, bs.Subtype = []byte("text"), []byte("plain")
	}
	if !p.Multipart && bytes.EqualFold(bs.Type, []byte("multipart")) {
		// "multipart" without a subtype would look like one that has parts
		bs.Type, bs.Subtype = []byte("application"), []byte("octet-stream")
	}
	bs.Text = !p.Message && !p.Multipart && bytes.EqualFold(bs.Type, []byte("text"))
	if bs.Text {
		bs.defaultCharset()
	}
	if bs.Encoding == nil {
		bs.Encoding = []byte("7bit")
	}
	return bs
}

func (bs *BodyStructure) defaultCharset() {
	for _, p := range bs.Params {
		if bytes.EqualFold(p.Name, []byte("charset")) {
			return
		}
	}
	bs.Params = append(bs.Params, Param{[]byte("charset"), []byte("us-ascii")})
}

// readHeader reads the Content-* fields. Of several of one name the first
// counts.
func (bs *BodyStructure) readHeader(header []byte) {
	first := func(dst *[]byte, f Field) {
		if *dst == nil {
			*dst = f.Unfolded()
		}
	}
	for f := range Fields(header) {
		switch {
		case f.Is("Content-ID"):
			first(&bs.ID, f)
		case f.Is("Content-MD5"):
			first(&bs.MD5, f)
		case f.Is("Content-Description"):
			first(&bs.Description, f)
		case f.Is("Content-Location"):
			first(&bs.Location, f)
		case f.Is("Content-Type") && bs.Type == nil:
			bs.readType(f.Unfolded())
		case f.Is("Content-Transfer-Encoding") && bs.Encoding == nil:
			bs.readEncoding(f.Unfolded())
		case f.Is("Content-Disposition") && bs.DispositionParams == nil:
			bs.readDisposition(f.Unfolded())
		case f.Is("Content-Language") && bs.Language == nil:
			bs.readLanguage(f.Unfolded())
		}
	}
}

func (bs *BodyStructure) readType(value []byte) {
	x := lexer{s: value}
	text, st := x.mediaType()
	if st == bad {
		bs.Type, bs.Subtype = []byte{}, []byte{}
		return
	}
	typ, subtype, _ := bytes.Cut(text, []byte("/"))
	bs.Type, bs.Subtype = nonNil(typ), nonNil(subtype)
	bs.Params = x.parameters()
}

// readEncoding accepts a single token: anything else says nothing.
func (bs *BodyStructure) readEncoding(value []byte) {
	x := lexer{s: value}
	x.skipCFWS()
	if token, st := x.token(nil); st == end && len(token) > 0 {
		bs.Encoding = token
	}
}

func (bs *BodyStructure) readDisposition(value []byte) {
	x := lexer{s: value}
	x.skipCFWS()
	token, st := x.token(nil)
	if st == bad {
		return
	}
	bs.Disposition = nonNil(token)
	bs.DispositionParams = x.parameters()
}

// readLanguage reads a list of language tags (RFC 3282).
func (bs *BodyStructure) readLanguage(value []byte) {
	x := lexer{s: value}
	x.skipCFWS()
	for {
		tag, st := x.atom(nil)
		if st == bad && len(tag) == 0 {
			return
		}
		bs.Language = append(bs.Language, tag)
		if st == bad || !x.at(',') {
			return
		}
		x.pos++
		x.skipCFWS()
	}
}

// Type returns the media type of p, in lower case: "text", "plain" if its
// header says nothing, empty if what it says makes no sense.
func (p *Part) Type() (typ, subtype string) {
	bs := p.own()
	return strings.ToLower(string(bs.Type)), strings.ToLower(string(bs.Subtype))
}

// Encoding returns the content transfer encoding of p, in lower case: "7bit" if
// its header says nothing.
func (p *Part) Encoding() string { return strings.ToLower(string(p.own().Encoding)) }
