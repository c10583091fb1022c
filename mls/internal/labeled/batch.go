package labeled

// Batch collects signatures that are verified together, which takes less than
// one by one where the algorithm allows it: Ed25519. It accepts exactly what
// Verify accepts. It is not safe for concurrent use.
type Batch struct {
	suite *Suite
	list  []signed
}

// signed is one signature with what it is verified with.
type signed struct{ public, message, signature []byte }

// batchVerifier is a signatureScheme that verifies many signatures faster than
// one by one. It accepts a list exactly if verify accepts each of it.
type batchVerifier interface {
	verifyAll(list []signed) bool
}

// Batch returns an empty batch.
func (s *Suite) Batch() *Batch { return &Batch{suite: s} }

// Add adds what Verify takes. The batch keeps public and signature.
func (b *Batch) Add(public []byte, label string, content, signature []byte) {
	b.list = append(b.list, signed{public: public, message: signContent(label, content), signature: signature})
}

// Verify reports whether all signatures verify; it does not say which one does
// not.
func (b *Batch) Verify() bool {
	if v, ok := b.suite.sig.(batchVerifier); ok {
		return v.verifyAll(b.list)
	}
	for _, x := range b.list {
		if !b.suite.sig.verify(x.public, x.message, x.signature) {
			return false
		}
	}
	return true
}
