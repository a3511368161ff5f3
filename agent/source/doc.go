// Package source puts the source of an attempt, a commit of a Git repository or a folder
// that was sent to the share, into a work tree on the node. Its door is Fetcher.Place.
//
// Two users take part when the agent is root: git of the agent's own user speaks
// with the network, with a credential if there is one, and writes into the node's
// cache, which jobs cannot read; git of the job's user makes the work tree, from a
// pipe and without network. So a work tree never holds a credential, and nothing in
// it belongs to the agent.
//
// Git reaches a server only through a gate (shared/outbound), and large files are
// fetched through the same gate. No program of the repository's runs, and nothing
// waits for a person.
//
// A folder is unfolded by the agent itself, which trusts nothing that it finds on the
// share: each hash is checked, no link is followed, and links are made last.
//
// The package knows nothing of journals, slots or reports. It never decides whether
// an attempt is tried again.
package source
