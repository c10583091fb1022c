package cloudmls

import "github.com/cloudmls/gateway/mls"

// epochFacts is what an epoch says of its group and its members, with every
// leaf certificate checked.
type epochFacts struct {
	binding
	members []Account                     // sorted; not to be changed
	leaves  map[mls.LeafIndex]memberEntry // not to be changed
}

// facts gives them, or why the epoch is not one of ours. An archive record never
// changes, so that the certificates are verified once, not for each message and
// member.
func (r *epochRecord) facts() (*epochFacts, error) {
	r.once.Do(func() { r.known, r.unknown = readFacts(r.archive) })
	return r.known, r.unknown
}

func readFacts(archive *mls.ArchiveRecord) (*epochFacts, error) {
	ext, ok := archive.Extension(extensionBinding)
	if !ok {
		return nil, errBinding
	}
	b, err := parseBinding(ext)
	if err != nil {
		return nil, err
	}
	members := archive.Members()
	f := &epochFacts{binding: b, leaves: make(map[mls.LeafIndex]memberEntry, len(members))}
	var all []memberEntry
	for _, m := range members {
		one, err := roster([]mls.Member{m})
		if err != nil {
			return nil, err
		}
		f.leaves[m.Leaf] = one[0]
		all = append(all, one[0])
	}
	f.members = rosterAccounts(sortRoster(all))
	return f, nil
}
