//go:build unix

package compute

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"dsvmpools/local/chaos"
)

// findSet returns a set, or the error that there is none. The lock is held.
func (s *Server) findSet(name string) (*set, error) {
	st := s.sets[strings.ToLower(name)]
	if st == nil {
		return nil, refuse(http.StatusNotFound, "ResourceNotFound",
			"The Resource 'Microsoft.Compute/virtualMachineScaleSets/%s' under resource group '%s' was not found.", name, s.cfg.ResourceGroup)
	}
	return st, nil
}

func (st *set) etag() string { return fmt.Sprintf("%q", strconv.FormatInt(st.Version, 10)) }

func (s *Server) setID(name string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachineScaleSets/%s",
		s.cfg.SubscriptionID, s.cfg.ResourceGroup, name)
}

// writeSet answers with a set. begun is the operation that the call began; nil = none.
func (s *Server) writeSet(w http.ResponseWriter, status int, st *set, begun *op) error {
	w.Header().Set("ETag", st.etag())
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(s.setBody(st, begun))
}

// setBody returns the JSON of a set. begun is the operation that the call began; nil = none.
// The lock is held.
func (s *Server) setBody(st *set, begun *op) map[string]any {
	props := map[string]any{}
	for k, v := range st.Properties {
		props[k] = v
	}
	props["virtualMachineProfile"] = st.shownProfile()
	props["provisioningState"] = s.stateOfSet(st, begun)
	body := map[string]any{
		"id":         s.setID(st.Name),
		"name":       st.Name,
		"type":       "Microsoft.Compute/virtualMachineScaleSets",
		"location":   st.Location,
		"tags":       st.Tags,
		"sku":        st.SKU,
		"properties": props,
		"etag":       st.etag(),
	}
	if st.Identity != nil {
		body["identity"] = st.Identity
	}
	if len(st.Zones) > 0 {
		body["zones"] = st.Zones
	}
	return body
}

// stateOfSet returns the provisioning state of a set. The lock is held.
func (s *Server) stateOfSet(st *set, begun *op) string {
	state := "Succeeded"
	if st.Failed {
		state = "Failed"
	}
	for _, i := range st.Instances {
		if i.State == failed && state == "Succeeded" {
			state = "Failed"
		}
		if i.State == creating {
			state = "Updating"
		}
	}
	if o := s.ops[st.Op]; o != nil && !s.hasEnded(o) || begun != nil && begun.Failure != nil {
		state = "Updating" // the operation ends later, also one that will fail
	}
	if st.Deleting {
		state = "Deleting"
	}
	return state
}

func (s *Server) get(w http.ResponseWriter, c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "get", c.set, 1); err != nil {
		return err
	}
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	return s.writeSet(w, http.StatusOK, st, nil)
}

// put creates a set, or replaces its model and capacity. Without properties it changes the
// capacity of a set alone, as `az vmss scale` does.
func (s *Server) put(w http.ResponseWriter, c *call) error {
	if s.hasSet(c.set) && namesCapacityAlone(c.body) {
		return s.patch(w, c)
	}
	want, err := readModel(c.set, c.body)
	if err != nil {
		return err
	}
	if err := s.cfg.Surroundings.check(want); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.sets[strings.ToLower(c.set)]
	group := "update"
	if st == nil {
		group = "create"
	}
	if err := s.limit(w, group, c.set, 1); err != nil {
		return err
	}
	if st != nil && c.Header.Get("If-None-Match") == "*" || !meetsCondition(st, c.Header.Get("If-Match")) {
		return failure("PreconditionFailed")
	}
	if err := st.checkPassword(want); err != nil {
		return err
	}
	capacity := int(want.SKU.Capacity)
	if st == nil && len(s.sets) >= maxSets {
		return refuse(http.StatusConflict, "OperationNotAllowed", "The maximum number of %d scale sets of the region is reached.", maxSets)
	}
	if st == nil {
		// An earlier set of the same name cannot have had this version, so no condition
		// made for that set holds for this one.
		want.Version = time.Now().UnixMicro()
		want.SKU.Capacity = 0
		s.sets[strings.ToLower(c.set)] = want
		o, err := s.resize(want, capacity)
		if err != nil {
			delete(s.sets, strings.ToLower(c.set))
			return err
		}
		s.announce(w, c, o)
		return s.writeSet(w, http.StatusCreated, want, o)
	}
	if st.Deleting {
		return refuse(http.StatusConflict, "OperationNotAllowed", "The scale set is being deleted.")
	}
	if err := st.checkChange(want); err != nil {
		return err
	}
	old := *st
	st.takeModel(want)
	o, err := s.resize(st, capacity)
	if err != nil {
		st.SKU.Name, st.Properties, st.Tags, st.Identity = old.SKU.Name, old.Properties, old.Tags, old.Identity
		st.Model, st.Profiles = old.Model, old.Profiles
		return err
	}
	s.announce(w, c, o)
	return s.writeSet(w, http.StatusOK, st, o)
}

// hasSet reports whether there is a set of the name.
func (s *Server) hasSet(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[strings.ToLower(name)] != nil
}

// namesCapacityAlone reports whether a model has a capacity, and no properties.
func namesCapacityAlone(body []byte) bool {
	var p struct {
		SKU        struct{ Capacity *int64 }
		Properties json.RawMessage
	}
	return json.Unmarshal(body, &p) == nil && p.SKU.Capacity != nil && p.Properties == nil
}

func meetsCondition(st *set, condition string) bool {
	return condition == "" || st != nil && (condition == "*" || condition == st.etag())
}

// patch changes the capacity, under If-Match.
func (s *Server) patch(w http.ResponseWriter, c *call) error {
	var p struct {
		SKU *struct {
			Name     string
			Tier     string
			Capacity *int64
		}
	}
	if err := json.Unmarshal(c.body, &p); err != nil || p.SKU == nil || p.SKU.Capacity == nil {
		return refuse(http.StatusBadRequest, "InvalidRequestContent",
			"The request content was invalid: the local compute takes a patch of sku.capacity only.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "update", c.set, 1); err != nil {
		return err
	}
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	if !meetsCondition(st, c.Header.Get("If-Match")) {
		return failure("PreconditionFailed")
	}
	if st.Deleting {
		return refuse(http.StatusConflict, "OperationNotAllowed", "The scale set is being deleted.")
	}
	if p.SKU.Name != "" && !strings.EqualFold(p.SKU.Name, st.SKU.Name) {
		return refuse(http.StatusBadRequest, "InvalidParameter", "The size of a scale set with instances cannot be changed here.")
	}
	o, err := s.resize(st, int(*p.SKU.Capacity))
	if err != nil {
		return err
	}
	s.announce(w, c, o)
	return s.writeSet(w, http.StatusOK, st, o)
}

// deleteSet deletes a set with its instances.
func (s *Server) deleteSet(w http.ResponseWriter, c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "delete", c.set, 1); err != nil {
		return err
	}
	st, err := s.findSet(c.set)
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	wasDeleting := st.Deleting
	st.Deleting = true
	o := &op{Set: st.Name, Deletes: true, WholeSet: true}
	if err := s.removeInstances(st, st.Instances, o); err != nil {
		st.Deleting = wasDeleting
		return err
	}
	s.removeIfEmpty(st)
	s.announce(w, c, o)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// deleteInstances deletes the named instances, or all if none is named, as the real
// service does.
func (s *Server) deleteInstances(w http.ResponseWriter, c *call) error {
	var p struct{ InstanceIDs []string }
	if len(c.body) > 0 && json.Unmarshal(c.body, &p) != nil {
		return refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, id := range p.InstanceIDs {
		named[id] = true
	}
	var chosen []*instance
	for _, i := range st.Instances {
		if len(p.InstanceIDs) == 0 || named[i.ID] {
			chosen = append(chosen, i)
		}
	}
	if err := s.limit(w, "deleteInstances", c.set, max(len(chosen), 1)); err != nil {
		return err
	}
	o := &op{Set: st.Name, Deletes: true}
	if err := s.removeInstances(st, chosen, o); err != nil {
		return err
	}
	s.announce(w, c, o)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// deleteInstance deletes one instance. One that is not there is no error.
func (s *Server) deleteInstance(w http.ResponseWriter, c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "deleteInstance", c.set, 1); err != nil {
		return err
	}
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	var chosen []*instance
	for _, i := range st.Instances {
		if i.ID == c.PathValue("instance") {
			chosen = append(chosen, i)
		}
	}
	if len(chosen) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	o := &op{Set: st.Name, Deletes: true}
	if err := s.removeInstances(st, chosen, o); err != nil {
		return err
	}
	s.announce(w, c, o)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// list pages through the instances, with their instance view.
func (s *Server) list(w http.ResponseWriter, c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "list", c.set, 1); err != nil {
		return err
	}
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	instances := st.Instances
	if c.chaos.Do == chaos.Lag {
		instances = st.instancesAt(time.Now().Add(-c.chaos.Delay))
	}
	// A page begins with an id and not with a position. If an instance is deleted between
	// two pages, the positions shift, and the reader would miss another one.
	from, _ := strconv.Atoi(c.URL.Query().Get("$skiptoken"))
	values := []any{}
	next := ""
	for _, i := range instances {
		if i.number() < from {
			continue
		}
		if len(values) == pageSize {
			q := c.URL.Query()
			q.Set("$skiptoken", i.ID)
			next = s.baseURL(c.Request) + s.setID(st.Name) + "/virtualMachines?" + q.Encode()
			break
		}
		values = append(values, s.instanceView(st, i, strings.EqualFold(c.URL.Query().Get("$expand"), "instanceView")))
	}
	answer := map[string]any{"value": values}
	if next != "" {
		answer["nextLink"] = next
	}
	return json.NewEncoder(w).Encode(answer)
}

// capitalID returns a set's id for lists of instances. There the service writes the name
// of the group in capitals; a client must not depend on the case of an id.
func (s *Server) capitalID(name string) string {
	group := "/resourceGroups/" + s.cfg.ResourceGroup + "/"
	capitals := "/resourceGroups/" + strings.ToUpper(s.cfg.ResourceGroup) + "/"
	return strings.Replace(s.setID(name), group, capitals, 1)
}

// instanceView returns the JSON of an instance in a list.
func (s *Server) instanceView(st *set, i *instance, expand bool) any {
	props := map[string]any{
		"vmId":               i.VMID,
		"provisioningState":  i.provisioningState(),
		"latestModelApplied": i.Model == st.Model,
		"timeCreated":        i.Created.Format(time.RFC3339Nano),
	}
	if expand {
		props["instanceView"] = map[string]any{"statuses": s.statuses(i)}
	}
	return map[string]any{
		"instanceId": i.ID,
		"name":       i.Name,
		"id":         s.capitalID(st.Name) + "/virtualMachines/" + i.ID,
		"location":   st.Location,
		"tags":       st.Tags,
		"sku":        map[string]string{"name": st.SKU.Name, "tier": st.SKU.Tier},
		"properties": props,
	}
}

// provisioningState returns the state of an instance in the service's words.
func (i *instance) provisioningState() string {
	return map[string]string{creating: "Creating", running: "Succeeded", failed: "Failed", deleting: "Deleting"}[i.State]
}

// statuses returns the provisioning state of an instance, and its power state if it has one.
func (s *Server) statuses(i *instance) []map[string]any {
	status := map[string]any{"code": "ProvisioningState/" + strings.ToLower(i.provisioningState()), "level": "Info"}
	if i.Failure != nil && i.State == failed {
		status = map[string]any{
			"code":          "ProvisioningState/failed/" + i.Failure.Code,
			"level":         "Error",
			"displayStatus": "Provisioning failed",
			"message":       i.Failure.Message,
		}
	}
	all := []map[string]any{status}
	if power := s.power(i); power != "" {
		all = append(all, map[string]any{"code": "PowerState/" + power, "level": "Info", "displayStatus": "VM " + power})
	}
	return all
}

// power returns an instance's power state: none in the first half of the boot delay,
// "starting" in the second half.
func (s *Server) power(i *instance) string {
	switch {
	case i.Power != "":
		return i.Power
	case i.State == running:
		return "running"
	case i.State == creating && time.Since(i.Created) > s.cfg.BootDelay/2:
		return "starting"
	}
	return ""
}

// number returns an instance's id as a number. Lists are in its order.
func (i *instance) number() int {
	n, _ := strconv.Atoi(i.ID)
	return n
}
