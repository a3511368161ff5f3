package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"dsvmpools/shared/wire"
)

// planPool shows what applying a pool would change and end.
func (p *Program) planPool(ctx context.Context, d *document, body []byte) error {
	plan, err := ask(ctx, p, "asking what would change", func(ctx context.Context, s *session) (wire.PoolPlan, error) {
		plan, err := s.PlanApply(ctx, body)
		return plan, d.locate(err)
	})
	if err != nil {
		return err
	}
	for _, warning := range plan.Warnings {
		p.Say("%s", warning)
	}
	if p.output == outputJSON {
		return p.json(plan)
	}
	switch plan.Action {
	case wire.PlanNothing:
		return p.lines(fmt.Sprintf("pool %s is as the document says; nothing would change", plan.Name))
	case wire.PlanCreate:
		err = p.lines(fmt.Sprintf("pool %s would be created", plan.Name))
	default:
		err = p.lines(fmt.Sprintf("pool %s would change", plan.Name))
	}
	if err != nil {
		return err
	}
	t := newTable("FIELD NOW THEN")
	for _, change := range plan.Changes {
		t.add(change.Field, valueText(change.From), valueText(change.To))
	}
	if err := t.write(p, "  "); err != nil {
		return err
	}
	for _, effect := range plan.Effects {
		if err := p.lines(effect.Detail); err != nil {
			return err
		}
	}
	return nil
}

// valueText writes the value of a field on one line; "" = it has none.
func valueText(value any) string {
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		return value
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
