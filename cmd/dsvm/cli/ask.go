package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// ask sends a request to the instance and returns its answer. doing says on standard
// error what goes on when that takes long, such as "asking for job x".
func ask[T any](ctx context.Context, p *Program, doing string, request func(context.Context, *session) (T, error)) (answer T, err error) {
	err = p.with(ctx, doing, func(ctx context.Context, s *session) (err error) {
		answer, err = request(ctx, s)
		return err
	})
	return answer, err
}

// askAbout makes a command's RunE: it asks the instance about the one thing that the
// argument names, and prints the answer as JSON or has it shown.
func askAbout[T any](
	p *Program,
	doing string,
	request func(*session, context.Context, string) (T, error),
	show func(T) error,
) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		answer, err := ask(c.Context(), p, doing+" "+args[0], func(ctx context.Context, s *session) (T, error) {
			return request(s, ctx, args[0])
		})
		if err != nil {
			return err
		}
		if p.output == outputJSON {
			return p.json(answer)
		}
		return show(answer)
	}
}

// showList makes a command's RunE: it asks the instance for things, and prints them as
// a JSON array or as a table. none is said of an empty list.
func showList[T any](
	p *Program,
	doing string,
	request func(*session, context.Context) ([]T, error),
	none string,
	tabulate func([]T) *table,
) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		items, err := ask(c.Context(), p, doing, func(ctx context.Context, s *session) ([]T, error) { return request(s, ctx) })
		if err != nil {
			return err
		}
		return p.list(items, tabulate(items), none)
	}
}
