package service

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/store"
)

// maxKnown bounds the accounts that a process remembers. One never changes.
const maxKnown = 10_000

// Users keeps the accounts of people: a name and a uid, made at first use, never changed
// and never given to anybody else.
type Users struct {
	store *store.Store
	now   func() time.Time

	mu    sync.Mutex
	known map[string]store.User // by id
	owned map[string]string     // by id: the login that is its own; see Owned
	first sync.Mutex            // one at a time in this process makes an account
}

// Find returns the caller with the name and the uid of the account, which it makes at first
// use. A program is returned as it is.
func (u *Users) Find(ctx context.Context, c caller.Caller) (caller.Caller, error) {
	if !c.IsPerson() {
		return c, nil
	}
	user, err := u.account(ctx, c)
	if err == nil {
		c.Name, c.UID = user.Name, user.UID
	}
	return c, err
}

func (u *Users) account(ctx context.Context, c caller.Caller) (store.User, error) {
	if user, ok := u.remembered(c.ID); ok {
		return user, nil
	}
	u.first.Lock()
	defer u.first.Unlock()
	if user, ok := u.remembered(c.ID); ok {
		return user, nil
	}
	user, err := u.store.AddUser(ctx, c.ID, c.Login, func(n int) string { return accountName(c.Login, n) }, u.now())
	if err != nil {
		return user, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known == nil || len(u.known) >= maxKnown {
		u.known = map[string]store.User{}
	}
	u.known[c.ID] = user
	return user, nil
}

func (u *Users) remembered(id string) (store.User, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	user, ok := u.known[id]
	return user, ok
}

// Owned is the login under which somebody's account was made, if no older account was made under
// it; "" = it was another's before, or there is no account. A directory may change a login, and
// give it to another person later: this one stays.
func (u *Users) Owned(ctx context.Context, id string) (string, error) {
	u.mu.Lock()
	login, ok := u.owned[id]
	u.mu.Unlock()
	if ok {
		return login, nil
	}
	user, err := u.store.User(ctx, id)
	if fault.CodeOf(err) == fault.NotFound || err == nil && user.Login == "" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	all, err := u.store.UsersOfLogin(ctx, user.Login)
	if err != nil {
		return "", err
	}
	if len(all) > 0 && all[0].ID == id {
		login = user.Login
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.owned == nil || len(u.owned) >= maxKnown {
		u.owned = map[string]string{}
	}
	u.owned[id] = login
	return login, nil
}

// maxName is what Linux takes.
const maxName = 32

// accountName is the nth name to try for a login: ann, ann2, ann3 for ann@contoso.com. It
// has a-z, 0-9 and -, and begins with a letter. "" = that one must not be used.
func accountName(login string, n int) string {
	base, _, _ := strings.Cut(login, "#EXT#") // a guest is bob_example.com#EXT#@contoso...
	base, _, _ = strings.Cut(base, "@")
	var b strings.Builder
	for _, r := range strings.ToLower(base) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= maxName {
			break
		}
	}
	name := strings.Trim(b.String(), "-")
	if name == "" || name[0] < 'a' || hasReservedPrefix(name) {
		name = "u" + name
	}
	number := ""
	if n > 1 {
		number = strconv.Itoa(n)
	}
	name = strings.TrimRight(name[:min(len(name), maxName-len(number))], "-") + number
	if slices.Contains(reserved, name) {
		return ""
	}
	return name
}

// hasReservedPrefix reports whether names that begin so are of systems, whatever follows.
func hasReservedPrefix(name string) bool {
	return strings.HasPrefix(name, "systemd-") || strings.HasPrefix(name, "dsvm")
}

// reserved are users and groups of Debian, Ubuntu, and the Data Science VM.
var reserved = strings.Fields(`
	root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody nogroup
	adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users
	input sgx kvm render crontab netdev wheel messagebus syslog sshd ssh uuidd tcpdump tss landscape fwupd-refresh pollinate lxd
	chrony ntp avahi colord geoclue pulse gdm saned whoopsie kernoops speech-dispatcher rtkit polkitd cups-pk-helper dnsmasq
	usbmux hplip lightdm xrdp ssl-cert lpadmin scanner bluetooth nm-openvpn admin administrator ubuntu debian azureuser azure
	docker containerd postgres mysql redis nginx apache git hadoop spark hdfs yarn jupyter jupyterhub rstudio-server
	munge slurm nvidia-persistenced u user guest test ansible waagent omsagent omi mdsd halt shutdown`)
