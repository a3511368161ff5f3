package scheduler_test

// peopleMutations spoil what is promised to people, in the step, in the driver and in the
// service. Each has to be caught by TestSimulationOfPeople, or by a test of the service of the
// same kind, under the name of what it breaks.
var peopleMutations = []driverMutation{
	{
		name: "people get a second session", dir: "scheduler", file: "sessions.go", people: true, always: true,
		old:  " || se.sessions[e.Session.Owner] != nil {",
		new:  " {",
		want: []string{"S2"},
	},
	{
		name: "a session is opened once more by a late message", file: "drive.go", people: true,
		old:  "	queue, err := d.newSessions(ctx, a, events)\n",
		new:  "	queue, err := events, error(nil)\n",
		want: []string{"S2"},
	},
	{
		name: "a session moves", dir: "scheduler", file: "attempts.go", people: true,
		old:  "	case s.ReadyAt.IsZero() && (j.Requeue || j.isFree(a)):\n",
		new:  "	case j.Requeue || j.isFree(a):\n",
		want: []string{"S3"},
	},
	{
		name: "a node leaves under its people, since it is outdated", dir: "scheduler", file: "rolling.go", people: true,
		old:  "n.State == pool.NodeBusy) && !n.hasSession():",
		new:  "n.State == pool.NodeBusy):",
		want: []string{"S1"},
	},
	{
		name: "who comes back after a warning is not seen", dir: "scheduler", file: "session_votes.go", people: true,
		old:  "		case of.IdleAfter == 0 || at.Add(-idle).After(s.WarnedOn):\n",
		new:  "		case of.IdleAfter == 0:\n",
		want: []string{"S6"},
	},
	{
		name: "a session ends before its time", dir: "scheduler", file: "sessions.go", people: true,
		old:  "se.now.Add(within), by\n",
		new:  "se.now.Add(within / 2), by\n",
		want: []string{"S6"},
	},
	{
		name: "nobody has to know of the warning", dir: "scheduler", file: "sessions.go", people: true,
		old:  "		se.send(n, protocol.WorkItem{N: se.Head.N, Warn: se.warning(j)})\n",
		new:  "		j.Session.ToldN = se.Head.N\n",
		want: []string{"S6"},
	},
	{
		name: "a voter that finds nothing out counts as idle", dir: "scheduler", file: "session_votes.go", people: true,
		old:  "	if st.Unknown && at.Sub(s.Since) < unknownFor {\n",
		new:  "	if st.Unknown && st.N < 0 {\n",
		want: []string{"S7"},
	},
	{
		name: "sessions live for ever", dir: "scheduler", file: "sessions.go", people: true,
		old:  "		case isOld:\n",
		new:  "		case isOld && se.Head.N < 0:\n",
		want: []string{"S7"},
	},
	{
		name: "each session that waits brings a node", dir: "scheduler", file: "plan.go", people: true,
		old:  "			fit = min(n, each, max(",
		new:  "			fit = min(n, 1, max(",
		want: []string{"S4"},
	},
	{
		name: "the memory of other sessions is forgotten", dir: "scheduler", file: "index.go", people: true,
		old:  "total.Memory == 0 || used.Memory+want.Memory <= total.Memory",
		new:  "total.Memory == 0 || want.Memory <= total.Memory",
		want: []string{"S5"},
	},
	{
		name: "nodes without a session stay while nobody waits", dir: "scheduler", file: "housekeeping.go", people: true,
		old:  "return spare && !hk.placement",
		new:  "return spare && (hk.line.waiting() > 0 || hk.now.Sub(n.Since) > 20*time.Minute) && !hk.placement",
		want: []string{"S8"},
	},
	{
		name: "spare slots are kept for nobody", dir: "scheduler", file: "spare.go", people: true,
		old:  "of.Sessions == nil || s.running == 0 || s.Head.Down || s.Head.Deleting",
		new:  "of.Sessions == nil || s.Head.Down || s.Head.Deleting",
		want: []string{"S9", "S4", "rest"}, // S9 by name: "who comes back opens a session"
	},
	{
		name: "people cost nothing", dir: "scheduler", file: "nodes.go", people: true,
		old:  "		n.BusyFor += spent\n",
		new:  "		n.IdleFor += spent\n",
		want: []string{"S13"},
	},
	{
		name: "a slot is used again while its VM is there", dir: "scheduler", file: "attempts.go", people: true,
		old:  "		if n.State != pool.NodeGone {\n			taken",
		new:  "		if n.State == pool.NodeBusy {\n			taken",
		want: []string{"S10"},
	},
	{
		name: "a session that is kept ends for idleness", dir: "scheduler", file: "session_votes.go", people: true,
		old:  "		idle = min(idle, at.Sub(s.KeepTill))\n",
		new:  "		idle = max(idle, 0)\n",
		want: []string{"S12"},
	},
	{
		name: "a session is sent without its door", file: "doors.go", people: true,
		old:  "		return items[:first]\n",
		new:  "		return items\n",
		want: []string{"door"},
	},
	{
		name: "who comes back opens a session", dir: "service", file: "sessions.go", service: true,
		old:  "	last, _, err := s.store.Jobs(",
		new:  "	if out, _, err := s.Open(ctx, name, \"\"); err == nil {\n		return out, nil\n	}\n	last, _, err := s.store.Jobs(",
		want: []string{"S9"},
	},
	{
		name: "a certificate for a session of another", dir: "service", file: "sessions.go", service: true,
		old:  "	if j.Session.Owner != c.ID {\n",
		new:  "	if j.Session.Owner != c.ID && c.Name == \"\" {\n",
		want: []string{"S11"},
	},
	{
		name: "a certificate for a session that is being ended", dir: "service", file: "sessiondoors.go", service: true,
		old:  "j.State != job.Running || j.Cancel != \"\":",
		new:  "j.State != job.Running:",
		want: []string{"S11"},
	},
	{
		name: "a certificate for a session on a lost node", dir: "service", file: "sessiondoors.go", service: true,
		old:  "node == nil || !letsIn(node) {",
		new:  "node == nil {",
		want: []string{"S11"},
	},
	{
		name: "a call to the network without an answer is not made again", dir: "scheduler", file: "network.go", people: true,
		old:  "		o.LookAt = nw.now.Add(nw.timing.NetworkAgain)\n",
		new:  "		o.LookAt = nw.now.Add(24 * time.Hour)\n",
		want: []string{"way"},
	},
	{
		name: "a door stays open after its session", dir: "scheduler", file: "network.go", people: true,
		old:  "	if key := want.Key(); key != o.Wanted {\n",
		new:  "	if key := want.Key(); key != o.Wanted && !want.IsNone() {\n",
		want: []string{"way", "rest"},
	},
	{
		name: "the balancer stays when the last node is gone", dir: "scheduler", file: "network.go", people: true,
		old:  "		want.Balancer = nw.anyAlive()\n",
		new:  "		want.Balancer = true\n",
		want: []string{"way", "rest"},
	},
}
