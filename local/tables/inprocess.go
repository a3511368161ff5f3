package tables

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// inProcessBase is the URL prefix of a server that does not listen. No name server
// knows the host.
const inProcessBase = "http://tables.invalid/"

// RoundTrip answers a request of a client in the same process, without a connection:
// the server is an http.RoundTripper for the client's transport. An injection that
// would end the connection is an error here.
func (s *Server) RoundTrip(r *http.Request) (response *http.Response, err error) {
	received := r.Clone(r.Context())
	if received.Body == nil {
		received.Body = http.NoBody
	}
	defer received.Body.Close()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if received.Host == "" {
		received.Host = r.URL.Host
	}
	answer := &answerBuffer{header: http.Header{}, status: http.StatusOK}
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			response, err = nil, io.ErrUnexpectedEOF
		default:
			panic(p)
		}
	}()
	s.ServeHTTP(answer, received)
	return answer.response(r), nil
}

// answerBuffer collects an answer.
type answerBuffer struct {
	header  http.Header
	sent    http.Header // as it was when the status was written; nil = not yet
	status  int
	content bytes.Buffer
}

func (a *answerBuffer) Header() http.Header { return a.header }

func (a *answerBuffer) WriteHeader(status int) {
	if a.sent == nil {
		a.status, a.sent = status, a.header.Clone()
	}
}

func (a *answerBuffer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.content.Write(p)
}

// response is the answer as the client receives it.
func (a *answerBuffer) response(r *http.Request) *http.Response {
	a.WriteHeader(a.status)
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        a.sent,
		Body:          io.NopCloser(&a.content),
		ContentLength: int64(a.content.Len()),
		Request:       r,
	}
}
