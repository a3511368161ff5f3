//go:build unix

package compute

import (
	"encoding/json"
	"net/http"
	"strings"
)

// vmSizes lists the sizes that the region has.
func (s *Server) vmSizes(w http.ResponseWriter, c *call) error {
	location := c.PathValue("location")
	if !strings.EqualFold(location, s.cfg.Location) {
		return refuse(http.StatusNotFound, "NoRegisteredProviderFound", "No registered resource provider found for location '%s'.", location)
	}
	list := []any{}
	for _, name := range s.cfg.Sizes {
		list = append(list, map[string]any{"name": name, "numberOfCores": s.cores(name)})
	}
	return json.NewEncoder(w).Encode(map[string]any{"value": list})
}
