package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/push"
	"dsvmpools/shared/wire"
)

// pushTime is how long the body of a delivery may take to arrive: until it is there,
// nobody has proven anything. Git hosts give up after 10 s themselves.
const pushTime = 30 * time.Second

// roomTime is how long a delivery waits for memory. A large one is read and judged
// within a fraction of a second, so that many come to their turn in it.
const roomTime = 10 * time.Second

// mediumBody is the size above which a delivery is one of the few.
const mediumBody = 1 << 20

// deliveries is the memory for the bodies of deliveries, of all that come at once:
// 66 MB when all of it is in use. Most are some KiB long; the large buffers are for
// pushes of thousands of commits.
func deliveries() *intake.Room {
	return intake.NewRoom(
		roomTime,
		intake.Size{Bytes: 64 << 10, Count: 128},
		intake.Size{Bytes: mediumBody, Count: 8},
		intake.Size{Bytes: push.MaxBody, Count: 2},
	)
}

// judge hands a delivery on. Large ones are judged one after the other: a parser
// takes several times the memory of what it reads.
func (s *server) judge(
	ctx context.Context,
	provider push.Provider,
	header push.Header,
	proof push.Proof,
	body []byte,
) (wire.PushAnswer, error) {
	if len(body) > mediumBody {
		s.judging.Lock()
		defer s.judging.Unlock()
	}
	return s.Pushes.Push(ctx, provider, header, proof, body)
}

// unproven is the pace of a body that may be anybody's.
func (s *server) unproven() intake.Pace {
	pace := intake.Usual
	pace.Total = s.pushTime
	return pace
}

// readPush reads a delivery within its time, its size and the memory for all of
// them. A body that announces more is not read at all.
func (s *server) readPush(w http.ResponseWriter, r *http.Request) (*intake.Body, error) {
	if r.ContentLength > push.MaxBody {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, wire.PushTooLarge()
	}
	body, err := s.room.Read(r.Context(), r.Body, push.MaxBody)
	if err == nil {
		return body, nil
	}
	w.Header().Set("Connection", "close")
	switch {
	case errors.Is(err, intake.ErrTooLarge):
		return nil, wire.PushTooLarge()
	case errors.Is(err, intake.ErrFull):
		w.Header().Set("Retry-After", retryAfter(s.room.Wait()))
		return nil, wire.Busy("other deliveries use up the memory that there is for them; have this one delivered again")
	case errors.Is(err, intake.ErrSlow):
		return nil, tooSlow(w)
	}
	return nil, fault.New(fault.Invalid, "", "the delivery broke off; send it again")
}

// tooSlow answers a body that did not come in time. The rest is not waited for.
func tooSlow(w http.ResponseWriter) error {
	w.Header().Set("Connection", "close")
	return wire.TooSlow(intake.ErrSlow.Error())
}

// checkBody refuses a body that a web page can send unasked. Deliveries are no
// business of browsers, and the answer to a hook that sends a form says how to set it.
func checkBody(w http.ResponseWriter, r *http.Request) error {
	if strings.HasPrefix(r.URL.Path, "/api/push/") {
		return nil
	}
	if why := door.PlainBody(r); why != nil {
		w.Header().Set("Connection", "close")
		return wire.WrongType(why.Reason)
	}
	return nil
}
