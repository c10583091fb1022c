package corpus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Mutants returns n messages of the corpus that were damaged at random places,
// reproducibly: lines lost, doubled, swapped, split, joined, cut short, octets
// changed. They are still legal for SMTP as corpus messages are, and no two are
// alike. A gateway may refuse those whose header no longer says who wrote to
// whom. They have no canaries.
func Mutants(n int, seed uint64) ([]Message, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m Message) bool { return len(m.Octets) > 24<<10 || m.Name == "bcc-field" })
	m := mutator{rand.New(rand.NewPCG(seed, seed+1))}
	var out []Message
	for i := range n {
		base := all[m.IntN(len(all))]
		name := fmt.Sprintf("mutant-%d-%s", i, base.Name)
		lines := append([][]byte{[]byte("X-Mutant: " + name)}, bytes.Split(bytes.TrimSuffix(base.Octets, crlf), crlf)...)
		for range 1 + m.IntN(6) {
			lines = m.mutate(lines)
		}
		octets := append(bytes.Join(lines, crlf), crlf...)
		out = append(out, Message{Name: name, Note: base.Note + ", damaged", Octets: octets})
	}
	return out, nil
}

var crlf = []byte("\r\n")

type mutator struct{ *rand.Rand }

// octet is any but NUL, CR and LF; those that mean something come often.
func (m mutator) octet() byte {
	if m.IntN(2) == 0 {
		const meaningful = `-=;:"\()<>@,. 	?*/%'` + "\x80\xff"
		return meaningful[m.IntN(len(meaningful))]
	}
	for {
		if c := byte(1 + m.IntN(255)); c != '\r' && c != '\n' {
			return c
		}
	}
}

// mutate changes one thing. The first line, which tells the mutants apart, stays.
func (m mutator) mutate(lines [][]byte) [][]byte {
	if len(lines) < 3 {
		return lines
	}
	i := 1 + m.IntN(len(lines)-1)
	j := 1 + m.IntN(len(lines)-1)
	if (isAddress(lines[i]) || isAddress(lines[j])) && m.IntN(5) > 0 {
		return lines // most of these are refused, and show nothing more
	}
	line := bytes.Clone(lines[i])
	at := m.IntN(len(line) + 1)
	lines = slices.Clone(lines)
	switch m.IntN(10) {
	case 0:
		return slices.Delete(lines, i, i+1)
	case 1:
		return slices.Insert(lines, i, lines[j])
	case 2:
		lines[i], lines[j] = lines[j], lines[i]
	case 3:
		lines[i] = line[:at]
		return slices.Insert(lines, i+1, line[at:])
	case 4:
		if i+1 < len(lines) && len(line)+len(lines[i+1]) <= 998 {
			lines[i] = append(line, lines[i+1]...)
			return slices.Delete(lines, i+1, i+2)
		}
	case 5:
		return lines[:max(i, 2)]
	case 6:
		return slices.Insert(lines, i, nil)
	case 7:
		lines[i] = line[:at]
	default: // octets changed, inserted
		for range 1 + m.IntN(3) {
			if at < len(line) && m.IntN(2) == 0 {
				line[at] = m.octet()
			} else if len(line) < 998 {
				line = slices.Insert(line, at, m.octet())
			}
		}
		lines[i] = line
	}
	return lines
}

func isAddress(line []byte) bool {
	return bytes.HasPrefix(line, []byte("From:")) || bytes.HasPrefix(line, []byte("To:"))
}
