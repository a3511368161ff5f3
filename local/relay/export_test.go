package relay

import "time"

// Shorten makes the times of a configuration short.
func Shorten(cfg *Config, accept, request, header time.Duration) {
	cfg.times = times{accept: accept, request: request, header: header}
}

// Waiting is how many addresses there are to come to.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// ParseFromListener reads a message of a listener.
func ParseFromListener(text []byte) error {
	_, err := parseFromListener(text)
	return err
}
