package httpapi

import (
	"net/http"
)

// highestRank bounds the number of a node of a job in a request. What there is the job says.
const highestRank = 1000

// certifyJob signs a key of a person who may change a job, for coming in to its running attempt.
func (s *server) certifyJob(w http.ResponseWriter, r *http.Request) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	in, done, err := readFields(w, r, "publicKey", "rank")
	if err != nil {
		return err
	}
	key, rank := in.String("publicKey", "ssh-ed25519 AAAA..."), in.Int("rank", 0, 0, highestRank)
	if err := done(); err != nil {
		return err
	}
	if err := s.mayChangeJob(r, id); err != nil {
		return err
	}
	certificate, err := s.Jobs.Certificate(r.Context(), id, key, rank)
	if err != nil {
		return err
	}
	return writeOK(w, certificate)
}
