//go:build unix

package compute

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Names in Config.Quota beside those of families and sizes.
const (
	QuotaTotal = "total"            // all regular cores of the region
	QuotaSpot  = "lowPriorityCores" // all Spot cores of the region; they count here only
)

var sizeParts = regexp.MustCompile(`^(?i)Standard_([A-Z]+)\d+(?:-\d+)?([a-z]*)((?:_[A-Z0-9]+?)*?)(_v\d+)?$`)

// Family is the quota family of a size: Standard_D2s_v5 is of
// standardDSv5Family.
func Family(size string) string {
	p := sizeParts.FindStringSubmatch(size)
	if p == nil {
		return ""
	}
	return "standard" + strings.ToUpper(p[1]+p[2]) + strings.ReplaceAll(p[3]+p[4], "_", "") + "Family"
}

// priority returns the priority of a set's instances, Regular or Spot, and the eviction
// policy.
func (st *set) priority() (priority, eviction string) {
	var p profile
	json.Unmarshal(st.Properties["virtualMachineProfile"], &p)
	if p.Priority == "Low" {
		p.Priority = "Spot"
	}
	return cmp.Or(p.Priority, "Regular"), p.EvictionPolicy
}

func (s *Server) cores(size string) int {
	if s.cfg.CPUs == nil {
		return 1
	}
	return max(s.cfg.CPUs(size), 1)
}

// checkQuota returns an error if a quota has no room for all of the new instances. The
// lock is held.
func (s *Server) checkQuota(st *set, more int) error {
	if len(s.cfg.Quota) == 0 || more == 0 {
		return nil
	}
	priority, _ := st.priority()
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Quota)) {
		limit := s.cfg.Quota[name]
		if !counts(name, st.SKU.Name, priority) {
			continue
		}
		used := s.usedCores(name)
		if required := more * s.cores(st.SKU.Name); used+required > limit {
			f := failure("quota",
				"{quota}", quotaTitle(name),
				"{location}", s.cfg.Location,
				"{limit}", fmt.Sprint(limit),
				"{usage}", fmt.Sprint(used),
				"{required}", fmt.Sprint(required),
				"{new}", fmt.Sprint(used+required),
			)
			f.Code = "OperationNotAllowed"
			return f
		}
	}
	return nil
}

// usedCores returns how many cores count against a quota now. The lock is held.
func (s *Server) usedCores(quota string) int {
	n := 0
	for _, st := range s.sets {
		priority, _ := st.priority()
		for _, i := range st.Instances { // those that are being deleted still count
			if counts(quota, i.Size, priority) {
				n += s.cores(i.Size)
			}
		}
	}
	return n
}

// usages lists the quotas of the region and how much of each is used.
func (s *Server) usages(w http.ResponseWriter, c *call) error {
	location := c.PathValue("location")
	if !strings.EqualFold(location, s.cfg.Location) {
		return refuse(http.StatusNotFound, "NoRegisteredProviderFound", "No registered resource provider found for location '%s'.", location)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Quota)) {
		value := name
		if strings.EqualFold(name, QuotaTotal) {
			value = "cores"
		}
		list = append(list, map[string]any{"unit": "Count", "currentValue": s.usedCores(name), "limit": s.cfg.Quota[name],
			"name": map[string]string{"value": value, "localizedValue": quotaTitle(name)}})
	}
	return json.NewEncoder(w).Encode(map[string]any{"value": list})
}

// counts reports whether instances of a size count against a quota.
func counts(quota, size, priority string) bool {
	if strings.EqualFold(quota, QuotaSpot) {
		return priority == "Spot"
	}
	isRegular := priority != "Spot"
	return isRegular && (strings.EqualFold(quota, QuotaTotal) || strings.EqualFold(quota, size) || strings.EqualFold(quota, Family(size)))
}

// quotaTitle returns a quota's name as errors write it.
func quotaTitle(quota string) string {
	switch {
	case strings.EqualFold(quota, QuotaTotal):
		return "Total Regional Cores"
	case strings.EqualFold(quota, QuotaSpot):
		return "LowPriorityCores"
	}
	return quota + " Cores"
}
