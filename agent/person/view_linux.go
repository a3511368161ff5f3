package person

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/wholefile"
)

// viewFile names the keeper's mount namespace, by which its processes are found.
const viewFile = "view"

// viewOf names the mount namespace of a process.
func viewOf(pid int) string {
	name, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/mnt")
	return name
}

// resolver is where most machines with systemd have their settings of DNS. Others lack it.
const resolver = "/run/systemd/resolve"

// Paths in a world apart.
const (
	ownRun   = "/run"
	ownShare = "/run/dsvm/share"
)

// makeView has the keeper, and all below it, see the machine as a session does: /tmp and
// /var/tmp are its own, and processes of other users are not listed. On a machine that is
// not the node's own, /etc is a layer above the machine's, so that accounts are made
// nowhere else, and /home and /run are the session's. It is called before the keeper has
// other threads that start processes.
func (k *keeper) makeView() error {
	p := &k.plan
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("a view of the machine cannot be made: %w", err)
	}
	// What the machine mounts later is seen here as well, and nothing the other way.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("a view of the machine cannot be made: %w", err)
	}
	unix.Umask(0o022)
	if err := wholefile.Replace(filepath.Join(p.State, viewFile), []byte(viewOf(os.Getpid())), 0o600); err != nil {
		return err
	}
	if p.OwnUsers {
		if err := k.makeWorldApart(); err != nil {
			return fmt.Errorf("users of the node's own cannot be had on this machine: %w", err)
		}
	}
	for _, point := range []string{"/tmp", "/var/tmp"} {
		if isBelow(point, p.Share) || isBelow(point, p.State) || isBelow(point, p.Run) {
			continue
		}
		own := filepath.Join(p.State, strings.ReplaceAll(point[1:], "/", "-"))
		if err := os.MkdirAll(own, 0o700); err != nil {
			return err
		}
		if err := errors.Join(os.Chown(own, p.UID, p.UID), unix.Mount(own, point, "", unix.MS_BIND, "")); err != nil {
			return fmt.Errorf("the session cannot have a %s of its own: %w", point, err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "hidepid=invisible"); err != nil {
		return fmt.Errorf("processes of others cannot be hidden: %w", err)
	}
	return nil
}

// makeWorldApart makes /etc, /home and /run the session's own. Folders that it covers are
// opened before, and reached by their numbers.
func (k *keeper) makeWorldApart() error {
	p := &k.plan
	if err := os.MkdirAll(p.Homes, 0o711); err != nil {
		return err
	}
	keep := map[string]int{}
	folders := []string{p.State, p.Run, p.Share, p.Homes, filepath.Dir(p.HostKey), filepath.Dir(p.DoorState), resolver}
	for _, path := range folders {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			if path == resolver {
				continue
			}
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		keep[path] = fd
	}
	bind := func(from, to string) error {
		fd, ok := keep[from]
		if !ok {
			return nil
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		return unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), to, "", unix.MS_BIND|unix.MS_REC, "")
	}
	const small = "mode=0755,size=16m"
	if err := unix.Mount("tmpfs", ownRun, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, small); err != nil {
		return err
	}
	layer := filepath.Join(ownRun, "dsvm/etc")
	for _, dir := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(layer, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+layer+"/upper,workdir="+layer+"/work"); err != nil {
		return err
	}
	own := func(name string) string { return filepath.Join(ownRun, "dsvm", name) }
	state, host, doors := own("state"), own("host"), own("doors")
	for _, step := range [][2]string{
		{p.State, state},
		{p.Run, p.Run},
		{p.Share, ownShare},
		{filepath.Dir(p.HostKey), host},
		{filepath.Dir(p.DoorState), doors},
		{resolver, resolver},
		{p.Homes, homesDir},
	} {
		if err := bind(step[0], step[1]); err != nil {
			return err
		}
	}
	p.State, p.Share, p.HostKey = state, ownShare, filepath.Join(host, filepath.Base(p.HostKey))
	p.DoorState = filepath.Join(doors, filepath.Base(p.DoorState))
	return nil
}

// isBelow reports whether a path is a folder or in it.
func isBelow(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}
