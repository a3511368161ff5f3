package job

// Cause says why an attempt could not start. The agent knows it and carries it
// in its report; who owns the cause decides who pays for it: see Owner.
type Cause string

// Causes that the job owns: the same job would fail in the same way on any
// other node.
const (
	CauseNoProgram     Cause = "noProgram"     // the program is not on the node, or not in the job's PATH
	CauseNotExecutable Cause = "notExecutable" // it is there and cannot be run
	CauseNoWorkdir     Cause = "noWorkdir"     // the working directory is missing, forbidden or no directory
	CauseScript        Cause = "script"        // the script cannot be read or run
	CauseSource        Cause = "source"        // the source cannot be fetched
	CauseSecret        Cause = "secret"        // a secret is missing, or the nodes may not read it
	CauseDocument      Cause = "document"      // the document asks for what no node can do: too many arguments, a bad variable
)

// Causes that the node owns: another node may well start the job.
const (
	CauseScratch     Cause = "scratch"     // the scratch directory cannot be made or written
	CauseShare       Cause = "share"       // the share is not mounted, does not answer or cannot be written
	CauseDisk        Cause = "disk"        // the node's disk is full or read-only
	CauseGPU         Cause = "gpu"         // the size has GPUs and the node shows none
	CauseJournalLost Cause = "journalLost" // the agent's journal is gone, and with it what became of the attempt
	CauseNoProcess   Cause = "noProcess"   // the system makes no process: no memory, no process numbers, no files
	CauseVault       Cause = "vault"       // the vault of a secret does not answer
	CauseRelease     Cause = "release"     // the agent is of an earlier release, and does not know a part of the assignment
	CauseLeftover    Cause = "leftover"    // processes of an earlier attempt could not be ended
)

// Owner is who has to mend a cause, and the only one who pays for it.
type Owner string

// Owners of causes of a failed start.
const (
	OwnerJob  Owner = "job"
	OwnerNode Owner = "node"
)

// Owner says who owns the cause. The causes of an agent of another release are
// unknown here; they count as the job's, as every failed start did before.
func (c Cause) Owner() Owner {
	switch c {
	case CauseScratch, CauseShare, CauseDisk, CauseGPU, CauseJournalLost, CauseNoProcess, CauseVault, CauseRelease, CauseLeftover:
		return OwnerNode
	}
	return OwnerJob
}

// CancelledByRequest is the reason of a job that somebody has cancelled.
const CancelledByRequest = "cancelled by request"
