package scheduler_test

// budgetMutations spoil what docs/budgets.md promises. Each has to be caught by
// TestSimulationOfBudgets under the name of what it breaks.
var budgetMutations = []driverMutation{
	{
		name: "a board that is late undoes a newer one", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "	if e.Seq <= old.Seq {\n",
		new:  "	if e.Seq == old.Seq {\n",
		want: []string{"budget late"},
	},
	{
		name: "a board is taken in once", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "	if e.Seq <= old.Seq {\n",
		new:  "	if e.Seq <= old.Seq || len(old.Standings) > 0 {\n",
		want: []string{"budget late"},
	},
	{
		name: "what holds nothing is not taken in", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "	if e.Seq <= old.Seq {\n",
		new:  "	if e.Seq <= old.Seq || len(e.Standings)+len(old.Standings) == 0 {\n",
		want: []string{"budget late"},
	},
	{
		name: "held jobs are placed", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "			return stopped\n",
		new:  "			return class\n",
		want: []string{"budget start", "reason"},
	},
	{
		name: "jobs in line keep their class", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "		if s.line.classOf(j) != j.inLine().class {\n",
		new:  "		if s.line.classOf(j) > stopped {\n",
		want: []string{"budget start", "reason"},
	},
	{
		name: "a hold ends what runs", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "		case s.Do(bu.now) != budget.Cancel:\n",
		new:  "		case !budget.Holds(s.Do(bu.now)):\n",
		want: []string{"budget ends"},
	},
	{
		name: "nobody has a grace", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "			case !bu.now.Before(s.CancelAt):\n",
		new:  "			case true:\n",
		want: []string{"budget ends"},
	},
	{
		name: "each look begins the grace again", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "			standings[i].CancelAt, standings[i].PerHour = old.Standings[at].CancelAt, old.Standings[at].PerHour\n",
		new:  "			standings[i].PerHour = old.Standings[at].PerHour\n		}\n		if at >= 0 {\n			standings[i].CancelAt = e.Standings[i].CancelAt\n",
		want: []string{"budget goes on"},
	},
	{
		name: "nothing is ended", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "				bu.jobs.cancel(j, s.Sentence(bu.now))\n",
		new:  "				_ = bu.jobs\n",
		want: []string{"budget goes on"},
	},
	{
		name: "a pool does not follow its budget", dir: "scheduler", file: "budgets.go", budgets: true,
		old:  "			s.Settle(bu.now, bu.nodesPerHour(s.Currency))\n",
		new:  "			s.Settle(bu.now, \"\")\n",
		want: []string{"budget start"},
	},
	{
		name: "nodes are asked for on behalf of what is held", dir: "scheduler", file: "line.go", budgets: true,
		old:  "return ln.inLine - ln.countClass(spared) - ln.countClass(stopped) }",
		new:  "return ln.inLine }",
		want: []string{"budget nodes", "reason"},
	},
}
