package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fileSystem says what kind of file system a folder is on, and of ext4 whether it has a
// journal: without one, its files cost something else.
func fileSystem(dir string) string {
	var at unix.Stat_t
	if unix.Stat(dir, &at) != nil {
		return "unknown"
	}
	device := fmt.Sprintf("%d:%d", unix.Major(at.Dev), unix.Minor(at.Dev))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(mounts)) {
		// 36 35 98:0 /root /where options ... - type source options
		mount, kind, _ := strings.Cut(line, " - ")
		f, k := strings.Fields(mount), strings.Fields(kind)
		if len(f) < 3 || len(k) < 2 || f[2] != device {
			continue
		}
		if k[0] == "ext4" {
			return "ext4 " + journal(device)
		}
		return k[0]
	}
	return "unknown"
}

// journal says whether the ext4 of a device has a journal: the kernel names the task
// that writes it.
func journal(device string) string {
	name, err := filepath.EvalSymlinks("/sys/dev/block/" + device)
	if err != nil {
		return "(journal unknown)"
	}
	task, err := os.ReadFile("/sys/fs/ext4/" + filepath.Base(name) + "/journal_task")
	switch {
	case err != nil:
		return "(journal unknown)"
	case strings.Contains(string(task), "none"):
		return "without a journal"
	}
	return "with a journal"
}
