package person

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// makeHome makes the home, for its person alone. One on the share has a folder on the node's own
// disk beside it, for what does not work on a share.
func (k *keeper) makeHome() error {
	p := k.plan
	if err := os.MkdirAll(homesDir, 0o755); err != nil {
		return fmt.Errorf("the folder of the homes cannot be made: %w", err)
	}
	isNew, err := makeOwnFolder(homesDir, p)
	if err != nil {
		return err
	}
	if p.OnShare {
		if isNew, err = makeSharedHome(p); err != nil {
			return err
		}
	}
	if isNew { // what every new home has
		k.asPerson(homeScript, p.home(), "/etc/skel")
	}
	if p.OnShare {
		return k.keepLocal()
	}
	return nil
}

// makeSharedHome makes the home on the share, once: a session on another node may do it at the
// same time.
func makeSharedHome(p Plan) (isNew bool, err error) {
	root, err := os.OpenRoot(p.Share)
	if err != nil {
		return false, fmt.Errorf("the share cannot be opened: %w", err)
	}
	defer root.Close()
	const rootsAlone = 0o755
	if err := root.Mkdir(sharedHomes, rootsAlone); err != nil && !errors.Is(err, os.ErrExist) {
		return false, fmt.Errorf("the folder of the homes cannot be made on the share: %w", err)
	}
	at, err := root.Lstat(sharedHomes)
	if err != nil {
		return false, fmt.Errorf("the folder of the homes cannot be looked at on the share: %w", err)
	}
	owner, ok := at.Sys().(*syscall.Stat_t)
	if !at.IsDir() || !ok || owner.Uid != 0 || at.Mode().Perm()&0o022 != 0 {
		return false, fmt.Errorf("%s on the share is no folder that root alone writes to; give it to root with the mode 755, "+
			"and export the share with rootSquash NoRootSquash", sharedHomes)
	}
	return makeOwnFolder(filepath.Join(p.Share, sharedHomes), p)
}

// makeOwnFolder makes the person's folder in one that root alone writes to.
func makeOwnFolder(in string, p Plan) (isNew bool, err error) {
	home := filepath.Join(in, p.User)
	err = os.Mkdir(home, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return false, fmt.Errorf("the home cannot be made: %w", err)
	}
	isNew = err == nil
	// Opened once, and never by a link: what is changed is what was looked at.
	fd, err := unix.Open(home, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("the home %s is no folder: %w", home, err)
	}
	defer unix.Close(fd)
	var at unix.Stat_t
	if err := unix.Fstat(fd, &at); err != nil {
		return false, err
	}
	if int(at.Uid) != p.UID && at.Uid != 0 {
		return false, fmt.Errorf("the home %s belongs to the number %d, and not to the person; move it away", home, at.Uid)
	}
	if err := errors.Join(unix.Fchown(fd, p.UID, p.UID), unix.Fchmod(fd, 0o700)); err != nil {
		return false, fmt.Errorf("the home cannot be given to its person: %w", err)
	}
	// Some shares have one owner for everything, and change none.
	before := at.Uid
	if err := unix.Fstat(fd, &at); err != nil {
		return false, err
	}
	if int(at.Uid) != p.UID {
		return false, fmt.Errorf("the home %s does not become the person's, since the share keeps no owners of files; "+
			"write `home: local`, or a `share` with `protocol: nfs`", home)
	}
	return isNew || before == 0, nil
}

// localScript leads what does not work on a share, and is no use on another node, to the node's
// own disk. What the person has made there by hand stays.
const localScript = `
local=$1
mkdir -p "$local/.vscode-server" "$local/.cache/pip" "$local/.local/share/jupyter" "$local/.ipython" || exit 21
server=$HOME/.vscode-server
[ -e "$server" ] && [ ! -L "$server" ] || ln -sfn "$local/.vscode-server" "$server"
`

// keepLocal makes the folders on the node's own disk of a home that is on the share.
func (k *keeper) keepLocal() error {
	err := k.asPerson(localScript, k.plan.local())
	if exitCode(err) == 21 {
		return fmt.Errorf("folders of programs cannot be made in %s on the node", k.plan.local())
	}
	return err
}

// localEnvironment has programs keep on the node's own disk what breaks on a share, above all
// databases of SQLite.
func (p Plan) localEnvironment() []string {
	jupyter := filepath.Join(p.local(), ".local/share/jupyter")
	all := []string{"DSVM_LOCAL=" + p.local(), "JUPYTER_DATA_DIR=" + jupyter, "IPYTHONDIR=" + filepath.Join(p.local(), ".ipython")}
	if p.OnShare {
		all = append(all, "PIP_CACHE_DIR="+filepath.Join(p.local(), ".cache/pip"))
	}
	return all
}

const homeScript = `cp -rn "$2/." "$1/" 2>/dev/null; exit 0`

// makeShareFolder makes the person's folder on the share. It stays when the node goes.
func (k *keeper) makeShareFolder() error {
	p := k.plan
	root, err := os.OpenRoot(p.Share)
	if err != nil {
		return fmt.Errorf("the share cannot be opened: %w", err)
	}
	defer root.Close()
	if err := root.Mkdir("notebooks", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("the folder notebooks cannot be made on the share: %w", err)
	}
	all, err := openFolder(root, "notebooks")
	if err != nil {
		return err
	}
	defer all.Close()
	name := p.User
	err = all.Mkdir(name, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("the folder notebooks/%s cannot be made on the share: %w", name, err)
	}
	isNew := err == nil
	at, err := all.Lstat(name)
	if err != nil {
		return fmt.Errorf("the folder notebooks/%s cannot be looked at on the share: %w", name, err)
	}
	if !at.IsDir() {
		return fmt.Errorf("notebooks/%s on the share is no folder; move it away", name)
	}
	// A share may have one owner for everything, by its mount, and refuse: the probe as the
	// person tells whether that will do.
	if sys, ok := at.Sys().(*syscall.Stat_t); ok && (isNew || sys.Uid == 0) {
		all.Lchown(name, p.UID, p.UID)
	}
	return nil
}

// openFolder opens a folder below another one, and no link to one: who made it would have all
// that is made there.
func openFolder(root *os.Root, name string) (*os.Root, error) {
	opened, err := root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("%s on the share is no folder; move it away: %w", name, err)
	}
	inside, err := opened.Stat(".")
	at, wrong := root.Lstat(name)
	if err = errors.Join(err, wrong); err == nil && !os.SameFile(inside, at) {
		err = fmt.Errorf("%s on the share is a link; make it a folder", name)
	}
	if err != nil {
		opened.Close()
		return nil, err
	}
	return opened, nil
}

// linkScript links the share into the home, as the person: nothing of root's follows a link
// that the person has made. Its exit code says what could not be done.
const linkScript = `
share=$1 notebooks=$1/notebooks/$2
ln -sfn "$share" "$HOME/share" && [ "$(readlink "$HOME/share")" = "$share" ] || exit 11
mkdir -p "$HOME/notebooks" && [ -d "$HOME/notebooks" ] || exit 12
ln -sfn "$notebooks" "$HOME/notebooks/remote" && [ "$(readlink "$HOME/notebooks/remote")" = "$notebooks" ] || exit 13
probe=$HOME/notebooks/remote/.dsvm-probe.$$
(: >"$probe") && rm -f "$probe" || exit 14
`

var linkFaults = map[int]string{
	11: "~/share cannot be made a link to the share; move away what is there",
	12: "~/notebooks is no folder; move away what is there",
	13: "~/notebooks/remote cannot be made a link to the share; move away what is there",
	14: "the person cannot write into the folder notebooks/%s of the share; give that folder to the person",
}

// linkShare makes ~/share and ~/notebooks/remote, and tries whether the person can write
// there.
func (k *keeper) linkShare() error {
	err := k.asPerson(linkScript, k.plan.Share, k.plan.User)
	if text, ok := linkFaults[exitCode(err)]; ok {
		if exitCode(err) == 14 {
			text = fmt.Sprintf(text, k.plan.User)
		}
		return errors.New(text)
	}
	return err
}

// asPerson runs a shell script as the person.
func (k *keeper) asPerson(script string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepWithin)
	defer cancel()
	_, err := k.reaper.runOut(ctx, command{
		argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...),
		as:   k.person(),
		env:  k.environment(),
		dir:  "/",
	})
	return err
}
