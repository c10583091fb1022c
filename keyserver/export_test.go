package keyserver

// Waiting is the number of long-polls that wait now.
func (s *Server) Waiting() int {
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	n := 0
	for _, p := range s.waiting.polls {
		n += p
	}
	return n
}

// DecodeStrict is decodeStrict, for the fuzz target.
var DecodeStrict = decodeStrict

// CheckTx is checkTx, for the fuzz target.
var CheckTx = checkTx
