package pool

import (
	"slices"
	"time"

	"dsvmpools/shared/document"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// Limits and defaults of the fields of interactive pools.
const (
	defaultIdleAfter = job.Duration(time.Hour)
	defaultWarning   = job.Duration(15 * time.Minute)
	defaultMaxAge    = job.Duration(5 * 24 * time.Hour)
	maxSlotCPUs      = 1024 // more than any size has
	maxSlotGPUs      = 64   // same
	maxProbe         = 4096 // bytes: it travels with each assignment
	maxMembers       = 200  // groups, or names
	maxMemberLength  = 256  // bytes of each
	off              = "off"
)

// sessionFields are those of a pool's document that only interactive pools have.
var sessionFields = []string{"sessions", "access", "balancer", "users"}

// readSessions reads the fields of an interactive pool, and refuses those that only batch
// pools have; of a batch pool it refuses those of an interactive one.
func readSessions(r *document.Reader, s *Spec) {
	if !s.IsInteractive() {
		for _, name := range sessionFields {
			if r.Has(name) {
				r.Fail(name, "`%s` is for pools of `kind: interactive`, in which people work; leave it out, or change `kind`", name)
			}
		}
		return
	}
	s.Sessions = readSessionsOf(r, s.OS)
	whole := s.Sessions.Resources.CPUs == 0
	switch {
	case r.Has("pack") && s.Pack == whole:
		r.Fail("pack", "`pack` is for batch pools; `sessions.resources` says whether people share a node: leave `pack` out")
	case r.Has("weights"):
		r.Fail("weights", "`weights` is for batch pools, whose jobs wait in line: leave it out; `limits` bounds what each team has")
	case s.Schedule != nil && s.Schedule.OnRunning == "requeue":
		r.Fail("schedule", "`schedule.onRunning` is requeue, and a session cannot begin again elsewhere; "+
			"write wait, or kill, which warns and ends them after `grace`")
	}
	s.Pack = !whole
	if s.OS == Windows && s.Image == (Image{}) {
		s.Image = Image{Name: DefaultWindowsImage}
	}
	s.Access = readAccess(r)
	if sub := r.Sub("balancer", `{"keep": true}`, "keep"); sub != nil {
		s.Balancer.Keep = sub.Bool("keep", false)
		if !slices.Contains(s.Access, AccessBalancer) {
			r.Fail("balancer", "`balancer` is there and `access` does not name it; add balancer to `access`, or leave it out")
		}
	}
	if sub := r.Sub("users", `{"names": ["ann@contoso.com"]}`, "groups", "names"); sub != nil {
		s.Users = Members{Groups: sub.Strings("groups", `["00000000-0000-0000-0000-000000000000"]`),
			Names: sub.Strings("names", `["ann@contoso.com"]`)}
	}
}

// readSessionsOf reads the field `sessions`.
func readSessionsOf(r *document.Reader, system string) *Sessions {
	out := &Sessions{IdleAfter: defaultIdleAfter, Warning: defaultWarning, MaxAge: defaultMaxAge,
		Home: protocol.HomeLocal, Jupyter: protocol.JupyterLab}
	if system == Windows { // people come by RDP, and there is no JupyterLab of ours
		out.Jupyter, out.Desktop = protocol.JupyterOff, DesktopRDP
	}
	sub := r.Sub("sessions", `{"resources": {"cpus": 4, "memory": "16Gi"}}`, "resources", "perUser", "spare", "idleAfter", "warning", "maxAge",
		"home", "jupyter", "sudo", "probe", "secrets", "desktop")
	if sub == nil {
		return out
	}
	if of := sub.Sub("resources", `{"cpus": 4, "gpus": 1, "memory": "16Gi"}`, "cpus", "gpus", "memory"); of != nil {
		if of.IsText("cpus") {
			if of.String("cpus", "all") != "all" {
				of.Fail("cpus", "`sessions.resources.cpus` is a text; write a number of cpus, or all for a node of one's own")
			}
		} else {
			out.Resources.CPUs = of.Int("cpus", 0, 0, maxSlotCPUs)
		}
		out.Resources.GPUs = of.Int("gpus", 0, 0, maxSlotGPUs)
		of.Text("memory", "16Gi", &out.Resources.Memory)
	}
	if n := sub.Int("perUser", 1, 1, maxLimit); n != 1 {
		sub.Fail("perUser", "`sessions.perUser` is %d, and more than one session of a person in a pool is not supported yet; leave it out", n)
	}
	out.Spare = sub.Int("spare", 0, 0, maxLimit)
	readUnlessOff(sub, "idleAfter", "1h", &out.IdleAfter)
	readUnlessOff(sub, "maxAge", "5d", &out.MaxAge)
	sub.Text("warning", "15m", &out.Warning)
	out.Home = withDefault(sub.String("home", protocol.HomeLocal), protocol.HomeLocal)
	out.Jupyter = withDefault(sub.String("jupyter", protocol.JupyterLab), out.Jupyter)
	out.Sudo = sub.Bool("sudo", false)
	out.Probe = sub.String("probe", "pgrep -u $USER rsync")
	out.Secrets = sub.MapOfSecrets("secrets", `{"HF_TOKEN": "keyvault:vault/secret"}`)
	out.Desktop = withDefault(sub.String("desktop", DesktopRDP), out.Desktop)
	if out.Desktop == off {
		out.Desktop = ""
	}
	return out
}

// readUnlessOff reads a duration for which `off` means 0.
func readUnlessOff(r *document.Reader, name, example string, into *job.Duration) {
	if r.IsText(name) && r.String(name, example) == off {
		*into = 0
		return
	}
	r.Text(name, example, into)
}

// readAccess reads the field `access`.
func readAccess(r *document.Reader) []string {
	if !r.Has("access") {
		return []string{AccessRelay}
	}
	return r.Strings("access", `["relay"]`)
}

// validateSessions checks what only interactive pools have.
func (s *Spec) validateSessions() error {
	if !s.IsInteractive() {
		return nil
	}
	of := s.Sessions
	switch {
	case of == nil:
		return invalid("sessions", "`sessions` is missing; write sessions: {} for the defaults")
	case of.IdleAfter != 0 && time.Duration(of.IdleAfter) < time.Second:
		return invalid("sessions.idleAfter", "`sessions.idleAfter` is %s; write at least 1s, or off", of.IdleAfter)
	case time.Duration(of.Warning) < time.Second:
		return invalid("sessions.warning", "`sessions.warning` is %s; write at least 1s: nobody's work ends unwarned. "+
			"With `idleAfter: off` no session ends for idleness", of.Warning)
	case of.MaxAge != 0 && time.Duration(of.MaxAge) < time.Second:
		return invalid("sessions.maxAge", "`sessions.maxAge` is %s; write at least 1s, or off", of.MaxAge)
	case of.Spare > 0 && of.Spare >= maxNodes*maxSlotCPUs:
		return invalid("sessions.spare", "`sessions.spare` is %d; no pool has so many slots", of.Spare)
	case of.Jupyter != protocol.JupyterLab && of.Jupyter != protocol.JupyterHub && of.Jupyter != protocol.JupyterOff:
		return invalid("sessions.jupyter", "`sessions.jupyter` is %q; write lab, hub or off", document.Clip(of.Jupyter))
	case of.Home != protocol.HomeLocal && of.Home != protocol.HomeShare:
		return invalid("sessions.home", "`sessions.home` is %q; write local or share", document.Clip(of.Home))
	case of.Home == protocol.HomeShare && !slices.ContainsFunc(s.Shares, Share.keepsOwners):
		return invalid("sessions.home", "`sessions.home: share` is not supported yet on SMB, which keeps no owners of files; "+
			"write local, or a `share` at %s with `protocol: nfs`", SharePath)
	case of.Sudo && of.Resources.CPUs != 0:
		return invalid("sessions.sudo", "`sessions.sudo` makes a person root of the node, over everybody there; "+
			"write `cpus: all` in `sessions.resources`, so that nobody else is there, or leave `sudo` out")
	case of.Desktop != "" && of.Desktop != DesktopRDP:
		return invalid("sessions.desktop", "`sessions.desktop` is %q; write rdp or off", document.Clip(of.Desktop))
	case s.OS == Windows && !slices.Contains(s.Access, AccessRelay):
		return invalid("access", "`access` lacks relay, by which alone people come to nodes of Windows; add it")
	case len(of.Probe) > maxProbe:
		return invalid("sessions.probe", "`sessions.probe` has %d bytes; shorten it to %d, and put what is longer on the share",
			len(of.Probe), maxProbe)
	}
	if err := job.CheckSecrets("sessions.secrets", of.Secrets); err != nil {
		return err
	}
	if err := s.validateSlot(); err != nil {
		return err
	}
	return s.validateWays()
}

// keepsOwners reports whether the share can hold the homes of people.
func (s Share) keepsOwners() bool { return s.Protocol == ProtocolNFS && s.Path == SharePath }

// validateSlot checks that a node of the pool has room for a session.
func (s *Spec) validateSlot() error {
	slot := s.Slot()
	for _, set := range s.Rungs() {
		has := set.Resources()
		if has.CPUs == 0 || slot.CPUs <= has.CPUs && slot.GPUs <= has.GPUs && slot.Memory <= has.Memory {
			return nil
		}
	}
	return invalid("sessions.resources", "`sessions.resources` is more than a node of any of the `sizes` has; "+
		"ask for less, or name a larger size")
}

// validateWays checks who may come in, and how.
func (s *Spec) validateWays() error {
	if len(s.Access) == 0 {
		return invalid("access", "`access` is empty; name relay, direct or balancer, or leave it out")
	}
	for i, way := range s.Access {
		switch {
		case way != AccessRelay && way != AccessDirect && way != AccessBalancer:
			return invalid("access", "`access` has %q; write relay, direct or balancer, the preferred one first", document.Clip(way))
		case slices.Contains(s.Access[:i], way):
			return invalid("access", "`access` names %s twice; name each way once", way)
		}
	}
	for _, f := range []struct {
		field string
		list  []string
	}{{"users.groups", s.Users.Groups}, {"users.names", s.Users.Names}} {
		field, list := f.field, f.list
		if len(list) > maxMembers {
			return invalid(field, "`%s` has %d entries; name at most %d, or a group that they are in", field, len(list), maxMembers)
		}
		for _, one := range list {
			if one == "" || len(one) > maxMemberLength {
				return invalid(field, "`%s` has an entry of %d bytes; write 1 to %d", field, len(one), maxMemberLength)
			}
		}
	}
	return nil
}
