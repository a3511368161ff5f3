package httpapi

import (
	"net/http"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/document"
	"dsvmpools/shared/wire"
)

func (s *server) listBudgets(w http.ResponseWriter, r *http.Request) error {
	budgets, err := s.Budgets.Budgets(r.Context())
	if err != nil {
		return err
	}
	list, err := page(budgets, r.URL.Query(), func(i int) string { return budgets[i].Name })
	if err != nil {
		return err
	}
	return writeOK(w, list)
}

func (s *server) showBudget(w http.ResponseWriter, r *http.Request) error {
	if err := budgetName(r); err != nil {
		return err
	}
	b, err := s.Budgets.Budget(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeOK(w, b)
}

func (s *server) applyBudgets(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	budgets, err := budget.ParseAll(body, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	applied, err := s.Budgets.ApplyBudgets(r.Context(), budgets)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewList(applied, ""))
}

func (s *server) raiseBudget(w http.ResponseWriter, r *http.Request) error {
	if err := budgetName(r); err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	n, err := document.Parse(body, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	in := document.Read(n, "to", "by")
	raise := wire.BudgetRaise{To: in.Scalar("to", "1500"), By: in.Scalar("by", "500")}
	if err := in.Err(); err != nil {
		return n.Locate(err)
	}
	b, err := s.Budgets.RaiseBudget(r.Context(), r.PathValue("name"), raise)
	if err != nil {
		return err
	}
	return writeOK(w, b)
}

func (s *server) deleteBudget(w http.ResponseWriter, r *http.Request) error {
	if err := budgetName(r); err != nil {
		return err
	}
	if err := s.Budgets.DeleteBudget(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// budgetName checks the name in the path. What cannot be a name names no budget.
func budgetName(r *http.Request) error {
	if budget.CheckName(r.PathValue("name")) != nil {
		return budget.None(r.PathValue("name"))
	}
	return nil
}
