//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/local/compute"
	"dsvmpools/shared/document"
	"dsvmpools/shared/size"
)

// maxUsers bounds what is read of the list of users, for a hint.
const maxUsers = 10_000

// userList is where users are listed. Others may come from a directory service: they are
// known all the same, and only not hinted at.
const userList = "/etc/passwd"

// checkJobUser refuses a user whom jobs cannot run as.
func checkJobUser(name string, root bool) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		hint := "make that user, or name another"
		if f, err := os.Open(userList); err == nil {
			defer f.Close()
			if near := document.Nearest(name, users(f)); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
		}
		return cli.WrongUse("--job-user %s: this machine has no such user; %s", document.Clip(name), hint)
	}
	if !root && u.Uid != strconv.Itoa(os.Geteuid()) {
		return cli.WrongUse(
			"--job-user %s: only when root runs `dsvm up` can jobs run as another user; leave it out, or run `dsvm up` by root",
			document.Clip(name))
	}
	return nil
}

// checkUsersFile refuses a file of people that cannot be read.
func checkUsersFile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.WrongUse("--users %s: there is no such file; write one with a line LOGIN:HASH:GROUP,GROUP for each person, "+
			"whose hash `htpasswd -nB LOGIN` makes", document.Clip(path))
	case errors.Is(err, fs.ErrPermission):
		return cli.WrongUse("--users %s: this user may not read the file; name another, or give it to who runs `dsvm up`", document.Clip(path))
	case err != nil:
		return cli.WrongUse("--users %s: the file cannot be read: %w", document.Clip(path), err)
	}
	defer f.Close()
	if at, err := f.Stat(); err != nil || at.IsDir() {
		return cli.WrongUse("--users %s: it is a folder; name the file with the people", document.Clip(path))
	}
	return nil
}

// users are the names in a list of users.
func users(list io.Reader) []string {
	var names []string
	for lines := bufio.NewScanner(list); lines.Scan() && len(names) < maxUsers; {
		if name, _, ok := strings.Cut(lines.Text(), ":"); ok && name != "" && name[0] != '#' {
			names = append(names, name)
		}
	}
	return names
}

// checkQuota refuses a quota that nothing would ever count against.
func checkQuota(quota map[string]int) error {
	known := append([]string{compute.QuotaTotal, compute.QuotaSpot}, size.Names()...)
	for _, name := range size.Names() {
		if family := compute.Family(name); !slices.Contains(known, family) {
			known = append(known, family)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(quota)) {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			hint := fmt.Sprintf("write total, lowPriorityCores, a size such as %s or a family such as %s", "Standard_D4s_v5",
				compute.Family("Standard_D4s_v5"))
			if near := document.Nearest(name, known); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			return cli.WrongUse("--quota %s: there is no such size, family or total; %s", document.Clip(name), hint)
		}
		if quota[name] < 0 {
			return cli.WrongUse("--quota %s=%d: write how many cpus may be had, 0 or more", name, quota[name])
		}
	}
	return nil
}
