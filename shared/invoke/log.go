package invoke

import (
	"context"
	"log/slog"
)

// LogHandler returns a handler that adds the invocation of the context to each line,
// under the key "invocation", and hands the line on. The Functions host cannot tell
// which invocation a line on standard output belongs to; the id says it. A line that is
// written without a context, or outside of an invocation, stays as it is.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

// Handle adds the invocation.
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := InvocationID(ctx); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("invocation", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the invocation in the lines of the new handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the invocation in the lines of the new handler.
func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
