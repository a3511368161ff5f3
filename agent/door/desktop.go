package door

import (
	"context"
	"net"
	"net/http"
	"time"

	"dsvmpools/shared/relay"
)

// takeDesktop joins the owner of the session, who shows a ticket, with the node's server for
// RDP. That server is one for all sessions of the node, and asks for a password besides.
func (s *session) takeDesktop(ctx context.Context, in *relay.Incoming) {
	f := s.file.Load()
	if err := s.web.tickets.take(in.Header.Get(relay.TicketHeader), relay.TicketDesktop, f, time.Now()); err != nil {
		_ = in.Reject(ctx, http.StatusForbidden, "this ticket is not valid here, or no more; get another one with `dsvm rdp`")
		return
	}
	if f.Desktop == "" {
		_ = in.Reject(ctx, http.StatusServiceUnavailable, "the session has no desktop yet")
		return
	}
	server, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", f.Desktop)
	if err != nil {
		s.log.Warn("the node's server for RDP does not answer", "session", f.Session, "error", err)
		_ = in.Reject(ctx, http.StatusServiceUnavailable, "the node has no server for RDP, or it does not answer: put one into the image")
		return
	}
	s.log.Info("somebody comes to the desktop", "session", f.Session, "user", f.User)
	s.lead(ctx, in, server, &s.desktop)
}
