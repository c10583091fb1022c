package truststore

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	ledgerVersion = 1
	// maxLedger bounds the file: an entry has about 1 KiB.
	maxLedger = 1 << 20
)

// Entry says that a store was told to trust an authority.
type Entry struct {
	Store       Store
	Certificate *x509.Certificate
}

// Ledger is the list of what was installed, in a file, so that it can be taken
// back after the certificate was renewed. It is for one process at a time.
type Ledger struct {
	file    string
	machine *Machine
	entries []Entry
}

type ledgerFile struct {
	Version int         `json:"version"`
	Entries []entryFile `json:"entries"`
}

type entryFile struct {
	Store
	Certificate []byte `json:"certificate"` // DER
}

// OpenLedger reads the list of a file; without the file it is empty.
func OpenLedger(file string, m *Machine) (*Ledger, error) {
	l := &Ledger{file: file, machine: m}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list of installed certificates: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxLedger+1))
	if err != nil {
		return nil, fmt.Errorf("list of installed certificates: %w", err)
	}
	if l.entries, err = parseLedger(b); err != nil {
		return nil, fmt.Errorf("list of installed certificates: %s: %w", file, err)
	}
	return l, nil
}

func parseLedger(b []byte) ([]Entry, error) {
	if len(b) > maxLedger {
		return nil, fmt.Errorf("longer than %d octets", maxLedger)
	}
	var f ledgerFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("more than one value")
	}
	if f.Version != ledgerVersion {
		return nil, fmt.Errorf("version %d, known is %d", f.Version, ledgerVersion)
	}
	var entries []Entry
	for i, e := range f.Entries {
		c, err := x509.ParseCertificate(e.Certificate)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		if !slices.Contains(Kinds(), e.Kind) {
			return nil, fmt.Errorf("entry %d: unknown kind %.20q", i+1, e.Kind)
		}
		entries = append(entries, Entry{e.Store, c})
	}
	return entries, nil
}

// Entries returns what is installed.
func (l *Ledger) Entries() []Entry { return slices.Clone(l.entries) }

// Trusts tells whether a store was told to trust this authority.
func (l *Ledger) Trusts(s Store, c *x509.Certificate) bool {
	return slices.ContainsFunc(l.entries, func(e Entry) bool { return e.Store == s && e.Certificate.Equal(c) })
}

// Install makes a store trust an authority, and then ends its trust in the ones
// that were installed there before. It may be repeated. The list is written
// first, so that a crash leaves nothing installed that is not listed.
func (l *Ledger) Install(ctx context.Context, s Store, c *x509.Certificate) error {
	before := l.Entries()
	known := l.Trusts(s, c)
	if !known {
		if err := l.save(append(l.Entries(), Entry{s, c})); err != nil {
			return err
		}
	}
	if err := l.machine.add(ctx, s, c); err != nil {
		err = fmt.Errorf("%s: %w", s, err)
		if known { // it may still be there from before
			return err
		}
		if undo := l.machine.remove(ctx, s, c); undo != nil {
			return errors.Join(err, fmt.Errorf("and could not be taken back: %w", undo))
		}
		return errors.Join(err, l.save(before))
	}
	for _, e := range before {
		if e.Store == s && !e.Certificate.Equal(c) {
			if err := l.Uninstall(ctx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Uninstall ends a store's trust in an authority and strikes the entry off.
func (l *Ledger) Uninstall(ctx context.Context, e Entry) error {
	if err := l.machine.remove(ctx, e.Store, e.Certificate); err != nil {
		return fmt.Errorf("%s: %w", e.Store, err)
	}
	return l.save(slices.DeleteFunc(l.Entries(), func(o Entry) bool { return o.Store == e.Store && o.Certificate.Equal(e.Certificate) }))
}

// save replaces the file in one step; without entries it is removed.
func (l *Ledger) save(entries []Entry) error {
	if err := l.write(entries); err != nil {
		return fmt.Errorf("list of installed certificates: %w", err)
	}
	l.entries = entries
	return nil
}

func (l *Ledger) write(entries []Entry) error {
	if len(entries) == 0 {
		if err := os.Remove(l.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	out := ledgerFile{Version: ledgerVersion}
	for _, e := range entries {
		out.Entries = append(out.Entries, entryFile{e.Store, e.Certificate.Raw})
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(l.file), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), l.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
