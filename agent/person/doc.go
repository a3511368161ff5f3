// Package person is a session on a node: a person's account, home, links, SSH server and
// JupyterLab, with what counts how long nobody has used them.
//
// A session is held by a process of its own, its keeper, which is the agent's program in
// another part: importing this package makes a program able to play it. The keeper is
// outside the agent's control group and not bound to its life, so that an agent may end,
// crash or be renewed while people work. It is the parent, or the adoptive one, of all
// processes of the session. It makes what a session needs step by step, serves logins, and
// says how things are to whoever connects to its socket:
//
//	agent                     keeper (root)                 the person
//	Start  ── session.json ─> account, home, links ...
//	Connect <── states ────── control.sock
//	                          ssh.sock ── sshd -i ────────> shells
//	                          jupyter lab ────────────────> kernels   (or jupyterhub, which starts it)
//
// One session has one keeper: it holds a lock in the session's run folder while it lives.
// The system ends that lock with the process, so whoever finds it free knows that the
// session's processes have no keeper any more, and ends what is left of them (Clear).
//
// It never talks to the pool, never reads the journal, and never decides that a session
// ends: that is the pool's, by way of the agent.
package person
