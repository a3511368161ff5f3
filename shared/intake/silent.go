package intake

import (
	"net"
	"slices"
	"sync"
)

// Silent holds the connections that have not said yet who comes. When there are too many, the
// oldest one is closed: an honest one speaks at once, so that nobody who is silent keeps others
// out.
type Silent struct {
	most int

	mu    sync.Mutex
	conns []net.Conn // in the order in which they came
}

// NewSilent has at most so many connections be silent at once.
func NewSilent(most int) *Silent { return &Silent{most: most} }

// Add counts a connection that is silent, until heard is called, which may be called again.
func (s *Silent) Add(c net.Conn) (heard func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.most {
		_ = s.conns[0].Close()
		s.conns = slices.Delete(s.conns, 0, 1)
	}
	s.conns = append(s.conns, c)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i := slices.Index(s.conns, c); i >= 0 {
			s.conns = slices.Delete(s.conns, i, i+1)
		}
	}
}

// Len is how many are silent.
func (s *Silent) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
