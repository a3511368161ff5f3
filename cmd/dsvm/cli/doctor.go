package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/client"
	"dsvmpools/shared/version"
	"dsvmpools/shared/wire"
)

const (
	// slowAnswer is what a person notices. The first answer of an app that has slept takes
	// longer, and is not counted.
	slowAnswer = 3 * time.Second
	// mostSkew is how far the clocks of this machine and of the instance may be apart.
	mostSkew = time.Minute
	// certificateDays is how early one should know that a certificate ends.
	certificateDays = 14 * 24 * time.Hour
)

func doctorCommand(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check a deployment, and say what mends it", Args: cobra.NoArgs,
		Long: `Check a deployment, and say what mends it. From here: the address, the key, the
clock and the version. From inside of the app: each right of its identity, the
queues, the tables, the share, the agent's program, the quota, and whether Azure
would make a node, which it is asked by a scale set without instances that is
deleted again. It costs nothing, changes nothing and takes half a minute.

Exit code: 1 when a check failed. What could not be found out is no failure.`,
		Example: "  dsvm doctor\n  dsvm doctor -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := p.connect()
			if err != nil {
				return err
			}
			stop := p.progress("checking " + s.instance.URL)
			rows := p.examine(c.Context(), s)
			stop()
			if err := p.showChecks(rows); err != nil {
				return err
			}
			return failures(rows)
		},
	}
}

// examine makes the checks from outside, and has the instance make the others.
func (p *Program) examine(ctx context.Context, s *session) []wire.Check {
	first, err := s.Reach(ctx, false)
	rows := []wire.Check{addressCheck(p.Now(), s.instance.URL, first, err)}
	if err != nil {
		return rows
	}
	rows = append(rows, lockCheck(first))
	second, err := s.Reach(ctx, true)
	if err != nil {
		return append(rows, addressCheck(p.Now(), s.instance.URL, second, err))
	}
	rows = append(rows, keyCheck(second), clockCheck(p.Now(), second))
	if second.Status != http.StatusOK {
		return rows
	}
	inside, err := s.Diagnose(ctx)
	if err != nil {
		return append(rows, wire.Check{Check: "inside", State: wire.CheckFailed, Detail: message(err),
			Mend: "look at the app's log; an instance of another version may know no doctor"})
	}
	v := version.Read()
	return append(append(rows, wire.Check{Check: "this program", State: wire.CheckOK,
		Detail: fmt.Sprintf("dsvm %s, protocol %d", v.Version, v.Protocol)}), inside...)
}

// addressCheck says whether something answers at the address, and by TLS.
func addressCheck(now time.Time, address string, r client.Reached, err error) wire.Check {
	row := wire.Check{Check: "address", State: wire.CheckFailed,
		Mend: "check the address and its name (nslookup), that the app runs (az functionapp show --query state), and the way there"}
	var unreachable *client.Unreachable
	if errors.As(err, &unreachable) {
		row.Detail = plain(unreachable.Err.Error())
		return row
	}
	if err != nil {
		row.Detail = plain(err.Error())
		return row
	}
	row.State, row.Detail, row.Mend = wire.CheckOK, address+" answers", ""
	u, _ := url.Parse(address)
	switch {
	case u != nil && u.Scheme == "https" && r.Expires.Sub(now) < certificateDays:
		row.State, row.Mend = wire.CheckFailed, "renew the certificate of the app's own domain"
		row.Detail = "its certificate ends on " + r.Expires.Format(time.DateOnly)
	case u != nil && u.Scheme == "https":
		row.Detail += ", its certificate is good until " + r.Expires.Format(time.DateOnly)
	}
	return row
}

// lockCheck says whether a request without a key is refused.
func lockCheck(r client.Reached) wire.Check {
	switch {
	case r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden:
		return wire.Check{Check: "without a key", State: wire.CheckOK, Detail: fmt.Sprintf("it answers %d", r.Status)}
	case r.Status >= 200 && r.Status < 300:
		return wire.Check{Check: "without a key", State: wire.CheckFailed, Detail: "it answers everybody who knows the address",
			Mend: "set authLevel to function in functions/Api/function.json, and deploy the app again"}
	}
	return wire.Check{Check: "without a key", State: wire.CheckUnknown, Detail: fmt.Sprintf("it answers %d", r.Status)}
}

// keyCheck says whether the key is accepted, and how fast the answer comes.
func keyCheck(r client.Reached) wire.Check {
	row := wire.Check{Check: "with the key", State: wire.CheckFailed, Detail: fmt.Sprintf("it answers %d", r.Status)}
	switch {
	case r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden:
		row.Mend = "set DSVM_KEY to what `az functionapp keys list --name APP --resource-group GROUP --query functionKeys.default -o tsv` prints"
	case r.Status == http.StatusNotFound:
		row.Mend = "deploy the app again: its functions are not there (az functionapp function list)"
	case r.Status != http.StatusOK:
		row.Mend = "look at the app's log: az functionapp log tail --name APP --resource-group GROUP"
	default:
		row.State, row.Detail = wire.CheckOK, fmt.Sprintf("it answers after %s", r.Latency.Round(time.Millisecond))
		if r.Latency > slowAnswer {
			row.State, row.Mend = wire.CheckUnknown, "run `dsvm doctor` again: an app that has slept wakes for a while"
		}
	}
	return row
}

// clockCheck compares this machine's clock with the instance's.
func clockCheck(now time.Time, r client.Reached) wire.Check {
	if r.Date.IsZero() {
		return wire.Check{Check: "clock here", State: wire.CheckUnknown, Detail: "the instance does not say what time it is"}
	}
	skew := now.Sub(r.Date)
	if skew.Abs() > mostSkew+r.Latency {
		return wire.Check{Check: "clock here", State: wire.CheckFailed,
			Detail: fmt.Sprintf("this machine's clock is %s off that of the instance", skew.Round(time.Second)),
			Mend:   "have this machine keep its time by NTP (timedatectl set-ntp true)"}
	}
	return wire.Check{Check: "clock here", State: wire.CheckOK, Detail: "as that of the instance"}
}

// showChecks shows rows of checks, and below them what mends those that are not ok.
func (p *Program) showChecks(rows []wire.Check) error {
	if p.output == outputJSON {
		return p.json(wire.NewList(rows, ""))
	}
	t := newTable("CHECK *STATE DETAIL")
	var mends []string
	for _, row := range rows {
		t.add(row.Check, row.State, row.Detail)
		if row.State != wire.CheckOK && row.Mend != "" {
			mends = append(mends, fmt.Sprintf("%s: %s", row.Check, row.Detail), "  -> "+row.Mend)
		}
	}
	if err := t.write(p, ""); err != nil || len(mends) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(p.Out); err != nil {
		return err
	}
	return p.lines(append([]string{"What to do:"}, mends...)...)
}

// failures is an error when a check failed. It says no more than the rows.
func failures(rows []wire.Check) error {
	for _, row := range rows {
		if row.State == wire.CheckFailed {
			return &Exit{Code: codeFailure}
		}
	}
	return nil
}
