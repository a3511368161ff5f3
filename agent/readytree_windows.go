package agent

import "dsvmpools/shared/protocol"

// workdirOfFirst is the working directory of all attempts but those of a gang's later ranks.
const workdirOfFirst = "wd"

// readyTree is none: the directories of each attempt are made when it comes.
type readyTree struct{}

func (*readyTree) remove() {}

func (l *launcher) removeTrees() {}

func (d *shareDir) removeEarlier() error { return nil }

// placeAttempt gives an attempt its directory on the share.
func (l *launcher) placeAttempt(k *slot, w protocol.Assignment) (*attemptDir, error) {
	k.admit(w)
	return l.share.makeAttemptDir(w, k.owner)
}

func (l *launcher) takeTreeBack(*slot, protocol.Assignment) bool { return false }
