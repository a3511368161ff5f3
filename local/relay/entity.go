package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/wholefile"
)

// entity is a hybrid connection with its listeners. The Server's mutex guards it.
type entity struct {
	Entity
	isKept   bool // made while the server ran, so that the file has it
	controls []*control
}

var entityName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,259}$`)

// find returns the entity that a path begins with; nil = none.
func (s *Server) find(path string) *entity {
	name, _, _ := strings.Cut(path, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entities[strings.ToLower(name)]
}

// Create makes an entity, or changes whether it takes senders without a token. It reports
// whether the entity is new.
func (s *Server) Create(name string, anonymous bool) (bool, error) {
	if !entityName.MatchString(name) {
		return false, fmt.Errorf("%.100q is no name of a hybrid connection", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, isThere := s.entities[strings.ToLower(name)]
	if !isThere {
		if len(s.entities) >= maxEntities {
			return false, errors.New("the namespace has as many hybrid connections as it may have")
		}
		e = &entity{Entity: Entity{Name: name}, isKept: true}
		s.entities[strings.ToLower(name)] = e
	}
	e.Anonymous = anonymous
	return !isThere, s.save()
}

// Delete removes an entity and ends its control channels. It reports whether there was one.
func (s *Server) Delete(name string) (bool, error) {
	s.mu.Lock()
	e := s.entities[strings.ToLower(name)]
	delete(s.entities, strings.ToLower(name))
	err := s.save()
	s.mu.Unlock()
	if e != nil {
		s.end(e, statusGone, "the hybrid connection has been deleted")
	}
	return e != nil, err
}

// Listeners is how many listeners an entity has now.
func (s *Server) Listeners(name string) int {
	e := s.find(name)
	if e == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(e.controls)
}

// Drop ends the control channels of an entity, as the service does now and then.
func (s *Server) Drop(name string) {
	if e := s.find(name); e != nil {
		s.end(e, statusBroken, "the control channel is dropped on demand")
	}
}

// Forget drops the control channels of an entity without a word: their clients believe that
// they still listen, until a ping is not answered.
func (s *Server) Forget(name string) {
	if e := s.find(name); e != nil {
		for _, c := range s.snapshot(e) {
			s.forget(c)
		}
	}
}

func (s *Server) end(e *entity, status closeStatus, reason string) {
	for _, c := range s.snapshot(e) {
		go c.end(status, reason)
	}
}

func (s *Server) snapshot(e *entity) []*control {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(e.controls)
}

// pick returns one of the listeners of an entity, by chance as the service does; nil = none.
func (s *Server) pick(e *entity) *control {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(e.controls) == 0 {
		return nil
	}
	return e.controls[rand.IntN(len(e.controls))]
}

// kept is the file of entities.
type kept struct {
	Entities []keptEntity `json:"entities"`
}

type keptEntity struct {
	Name      string `json:"name"`
	Anonymous bool   `json:"anonymous"`
}

// load reads the entities of the configuration and those of an earlier run.
func (s *Server) load() error {
	for _, e := range s.cfg.Entities {
		if !entityName.MatchString(e.Name) {
			return fmt.Errorf("%.100q is no name of a hybrid connection", e.Name)
		}
		s.entities[strings.ToLower(e.Name)] = &entity{Entity: e}
	}
	if s.cfg.Path == "" {
		return nil
	}
	text, err := os.ReadFile(s.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return fmt.Errorf("the hybrid connections in %s cannot be read (%w); "+
			"restore the file, or move it away: who needs one makes it again", s.cfg.Path, err)
	}
	for _, e := range k.Entities {
		if s.entities[strings.ToLower(e.Name)] == nil {
			s.entities[strings.ToLower(e.Name)] = &entity{Entity: Entity{Name: e.Name, Anonymous: e.Anonymous}, isKept: true}
		}
	}
	return nil
}

// save writes the file of entities. The Server's mutex is held.
func (s *Server) save() error {
	if s.cfg.Path == "" {
		return nil
	}
	var k kept
	for _, e := range s.entities {
		if e.isKept {
			k.Entities = append(k.Entities, keptEntity{e.Name, e.Anonymous})
		}
	}
	slices.SortFunc(k.Entities, func(a, b keptEntity) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Replace(s.cfg.Path, append(text, '\n'), 0o600)
}

// Manager answers the resource manager's calls for the hybrid connections of a namespace: PUT,
// GET and DELETE of .../namespaces/{namespace}/hybridConnections/{name}. Who calls has been
// checked before.
func (s *Server) Manager() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		if len(parts) != 10 || !strings.EqualFold(parts[5], "Microsoft.Relay") ||
			!strings.EqualFold(parts[6], "namespaces") || !strings.EqualFold(parts[8], "hybridConnections") {
			writeManagerError(w, http.StatusNotFound, "InvalidResourceType", "The resource type is not served by the local relay.")
			return
		}
		name := parts[9]
		switch r.Method {
		case http.MethodPut:
			var body struct {
				Properties struct {
					Authorized *bool `json:"requiresClientAuthorization"`
				} `json:"properties"`
			}
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage)).Decode(&body); err != nil {
				writeManagerError(w, http.StatusBadRequest, "BadRequest", "The body cannot be read as JSON.")
				return
			}
			authorized := body.Properties.Authorized == nil || *body.Properties.Authorized
			if _, err := s.Create(name, !authorized); err != nil {
				writeManagerError(w, http.StatusBadRequest, "BadRequest", err.Error())
				return
			}
			s.writeEntity(w, r, name)
		case http.MethodGet:
			s.writeEntity(w, r, name)
		case http.MethodDelete:
			isThere, err := s.Delete(name)
			switch {
			case err != nil:
				writeManagerError(w, http.StatusInternalServerError, "InternalServerError", "The hybrid connections could not be kept.")
			case isThere:
				w.WriteHeader(http.StatusOK)
			default:
				w.WriteHeader(http.StatusNoContent)
			}
		default:
			writeManagerError(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "The requested operation is not served by the local relay.")
		}
	})
}

func (s *Server) writeEntity(w http.ResponseWriter, r *http.Request, name string) {
	e := s.find(name)
	if e == nil {
		writeManagerError(w, http.StatusNotFound, "ResourceNotFound", "There is no hybrid connection of this name.")
		return
	}
	s.mu.Lock()
	body := map[string]any{
		"id": r.URL.Path, "name": e.Name, "type": "Microsoft.Relay/namespaces/hybridConnections",
		"properties": map[string]any{"requiresClientAuthorization": !e.Anonymous, "listenerCount": len(e.controls)},
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(body)
}

func writeManagerError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message}})
}
