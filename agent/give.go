package agent

import (
	"os"
	"path"
	"sync/atomic"
	"time"
)

// Bounds of giving away what an attempt has made. It may have made files without end;
// what is beyond a bound stays with the slot's user, who can harm nobody there.
const (
	giveBatch   = 1024    // names of a directory in memory at once
	givePending = 100_000 // directories that wait for their turn
	givePath    = 4096    // bytes of a path below the attempt's directory: no program can use a longer one
)

// giver gives files of certain users to their new owner.
type giver struct {
	to     *owner
	theirs func(uid int) bool
	end    time.Time
	given  *atomic.Int64 // files that were looked at

	batch, pending int // bounds
}

func newGiver(to *owner, theirs func(uid int) bool, within time.Duration, given *atomic.Int64) *giver {
	return &giver{to: to, theirs: theirs, end: time.Now().Add(within), given: given, batch: giveBatch, pending: givePending}
}

// giveTree gives away a directory and everything below it, and follows no link. What is
// not there, or cannot be read, is left out.
func (g *giver) giveTree(root *os.Root, top string) {
	if isDir := g.give(root, top); !isDir {
		return
	}
	for todo := []string{top}; len(todo) > 0 && time.Now().Before(g.end); {
		last := len(todo) - 1
		dir := todo[last]
		todo = g.giveEntries(root, dir, todo[:last])
	}
}

// giveEntries gives away what is in a directory, and adds its directories to todo.
func (g *giver) giveEntries(root *os.Root, dir string, todo []string) []string {
	below, err := root.OpenRoot(dir)
	if err != nil {
		return todo
	}
	defer below.Close()
	list, err := below.Open(".")
	if err != nil {
		return todo
	}
	defer list.Close()
	for time.Now().Before(g.end) {
		names, err := list.Readdirnames(g.batch)
		for _, name := range names {
			isDir := g.give(below, name)
			if at := path.Join(dir, name); isDir && len(todo) < g.pending && len(at) <= givePath {
				todo = append(todo, at)
			}
		}
		if err != nil { // io.EOF, or it cannot be read
			return todo
		}
	}
	return todo
}

// give gives one file away, if it is one of theirs. It reports whether it is a directory.
func (g *giver) give(root *os.Root, name string) (isDir bool) {
	at, err := root.Lstat(name)
	if err != nil {
		return false
	}
	if uid := ownerOf(at); uid >= 0 && g.theirs(uid) {
		g.to.give(root, name)
	}
	g.given.Add(1)
	return at.IsDir()
}
