// Package mailseal writes and reads the mail format: a message sealed into a
// multipart/encrypted message with a control part and an age bulk part.
//
// The control part holds the control record: size, part table with all headers
// and, up to 48 KiB, the message itself. A larger message is an age file in the
// bulk part, whose key and chunk hashes are in the control record. So headers,
// structure and size of any message cost one small fetch, and attachments are
// read at random, in constant memory.
//
// The package knows no MLS: a callback of the caller turns the control record
// into the content of the control part, and the caller opens that content
// before ParseControl.
//
//	sealed, err := mailseal.Seal(w, inner, size, mailseal.SealOptions{…})
//
//	loc, ok := mailseal.Locate(tree)                     // of the outer message
//	content, err := mailseal.DecodeControl(r, loc.Control)
//	record, err := mailseal.ParseControl(open(content))
//	bulk, err := mailseal.DecodeBulk(r, loc.Bulk)
//	m, err := mailseal.Open(record, bulk)
//	view := mailseal.NewView(tree.Header, status, m)
//
// The format is specified in docs/spec/mail-format.md, with vectors beside it.
package mailseal
