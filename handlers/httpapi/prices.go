package httpapi

import (
	"net/http"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// noPrices answers where the app keeps no prices.
func (s *server) noPrices() error {
	if s.Prices == nil {
		return fault.New(fault.NotFound, "", "this instance keeps no prices")
	}
	return nil
}

func (s *server) listPrices(w http.ResponseWriter, r *http.Request) error {
	if err := s.noPrices(); err != nil {
		return err
	}
	all, err := s.Prices.All(r.Context())
	if err != nil {
		return err
	}
	list, err := page(all, r.URL.Query(), func(i int) string { return all[i].Key() })
	if err != nil {
		return err
	}
	return writeOK(w, list)
}

// setPrice sets a price by hand; one that is empty takes that back.
func (s *server) setPrice(w http.ResponseWriter, r *http.Request) error {
	in, done, err := readFields(w, r, "sku", "os", "spot", "perHour")
	if err != nil {
		return err
	}
	set := wire.SetPrice{SKU: in.String("sku", "Standard_D4s_v5"), OS: in.String("os", "linux"), Spot: in.Bool("spot", false),
		PerHour: in.String("perHour", "0.192")}
	if err := done(); err != nil {
		return err
	}
	if err := s.noPrices(); err != nil {
		return err
	}
	p, err := s.Prices.Set(r.Context(), set)
	if err != nil {
		return err
	}
	return writeOK(w, p)
}

func (s *server) refreshPrices(w http.ResponseWriter, r *http.Request) error {
	if err := s.noPrices(); err != nil {
		return err
	}
	out, err := s.Prices.Refresh(r.Context())
	if err != nil {
		return err
	}
	return writeOK(w, out)
}
