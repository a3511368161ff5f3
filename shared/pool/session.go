package pool

import (
	"time"

	"dsvmpools/shared/job"
)

// Sessions is what the sessions of an interactive pool are like.
type Sessions struct {
	Resources job.Resources `json:"resources"`       // a slot; CPUs = 0 means a node of one's own
	Spare     int           `json:"spare,omitempty"` // free slots that are kept while anybody is there
	IdleAfter job.Duration  `json:"idleAfter"`       // all votes idle for so long: warn; 0 = never for idleness
	Warning   job.Duration  `json:"warning"`         // and end so long after the warning
	MaxAge    job.Duration  `json:"maxAge"`          // warn and end then, used or not; 0 = never
	Home      string        `json:"home"`            // protocol.HomeLocal or protocol.HomeShare
	Jupyter   string        `json:"jupyter"`         // protocol.JupyterLab, ...
	Sudo      bool          `json:"sudo,omitempty"`
	Probe     string        `json:"probe,omitempty"` // script that votes; exit code 0 = busy
}

// Members says who may open sessions of a pool; both empty: everybody with the role user.
type Members struct {
	Groups []string `json:"groups,omitempty"` // object ids of groups of the directory
	Names  []string `json:"names,omitempty"`  // logins, such as ann@contoso.com
}

// Session is what a job has that is a session. Its owner is the job's user.
type Session struct {
	Owner    string            // object id of the person in the directory; it never changes
	UID      int               // of the account
	Idle     time.Duration     // since when all voters are idle, as reported last; 0 = one is busy
	Unknown  bool              // a voter could not find out
	Since    time.Time         // of Unknown: when it was first reported so; zero = it is not
	HeardAt  time.Time         // enqueued time of the last report; zero = none
	Votes    map[string]string // by voter, for people
	Links    map[string]int    // open connections: ssh, jupyter
	Relayed  int64             // bytes through the relay
	WarnN    int64             // number of the last warning; 0 = none
	WarnedAt time.Time         // when it was warned; zero = it is not
	EndsAt   time.Time         // when it ends if nobody acts; zero = it is not warned
	EndsBy   string            // why it ends: idle | maxAge | schedule
	KeepTill time.Time         // its owner has asked to keep it until then; zero = has not
	ReadyAt  time.Time         // when it could first be used; zero = not yet
}
