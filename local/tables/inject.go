package tables

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"dsvmpools/local/chaos"
)

// codes are the failures that an injection can ask for by the code of the service.
// Any other code is answered as an internal error with that code.
var codes = map[string]*failure{}

func init() {
	for _, f := range []*failure{
		errInput, errTableName, errNoKeys, errKeySize, errKeyCharacter, errName, errValueSize, errProperties, errEntitySize, errRefused,
		errNotFound, errNoTable, errTableExists, errExists, errCondition, errBodySize,
		errBusy, errBeingDeleted, errTimedOut, errNotGranted, errRight, errInternal,
	} {
		codes[f.code] = f
	}
}

// abort ends the connection without an answer; net/http knows this panic.
func abort() { panic(http.ErrAbortHandler) }

// injectFailure does what an injection says about a request. It returns the failure
// to answer with, and whether the connection ends after the request is done.
func (s *Server) injectFailure(ctx context.Context, w http.ResponseWriter, o operation, table string) (bad *failure, lose bool) {
	out := s.cfg.Chaos.Decide(chaos.Call{Server: "tables", Operation: string(o), Entity: table},
		chaos.Delay, chaos.Refuse, chaos.Throttle, chaos.Disconnect, chaos.Lose)
	switch out.Do {
	case chaos.Delay:
		later := time.NewTimer(out.Delay)
		defer later.Stop()
		select {
		case <-later.C:
		case <-ctx.Done():
			abort()
		}
	case chaos.Throttle:
		if out.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(out.RetryAfter.Seconds()))))
		}
		return errBusy, false
	case chaos.Refuse:
		if f := codes[out.Code]; f != nil {
			return f, false
		}
		if out.Code != "" {
			return newFailure(http.StatusInternalServerError, out.Code, "The request was refused by an injected failure."), false
		}
		return errInternal, false
	case chaos.Disconnect:
		abort()
	case chaos.Lose:
		return nil, true
	}
	return nil, false
}
