// Package keeper is a small process of its own between an agent and the attempts
// of one place on the node. It is the subreaper of whatever it starts: a process
// that leaves its session, drops its environment and loses its parent comes to the
// keeper, so that the attempt's processes are exactly the keeper's descendants, and
// "no child is left" is the system's own word that the attempt is gone.
//
// The agent uses one where it has no control group, on Linux. The keeper is the
// agent's own program with another name: importing this package makes a program
// able to play it. It starts what the agent asks for, one attempt at a time, ends it, and
// says how it ended; it reads no file but /proc, and ends everything and then
// itself when its agent is gone, however that ended.
package keeper
