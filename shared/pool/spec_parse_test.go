package pool_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// leastPool is a document that lacks nothing, three lines long.
const leastPool = "name: cpu\nsizes: [Standard_D4s_v5]\nnodes: {max: 4}\n"

func TestParseSpec(t *testing.T) {
	t.Parallel()
	plain := pool.Spec{Name: "cpu", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D4s_v5"}, Capacity: "regular",
		Nodes: pool.Range{Max: 4}, IdleTimeout: job.Duration(5 * time.Minute), Pack: true}
	with := func(change func(*pool.Spec)) pool.Spec {
		s := plain
		change(&s)
		return s
	}
	for _, c := range []struct {
		name, body string
		want       pool.Spec
	}{
		{"the least", leastPool, plain},
		{"the least, as JSON", `{"name": "cpu", "sizes": ["Standard_D4s_v5"], "nodes": {"max": 4}}`, plain},
		{"everything", `name: gpu-2
kind: batch
os: linux
region: westeurope
sizes: [Standard_NC4as_T4_v3]
capacity: regular
image: {publisher: p, offer: o, sku: s, version: 1.2.3}
nodes: {min: 1, max: 1000}
idleTimeout: 1h30m
pack: false
schedule: {downAt: "20:00", upAt: "07:00", timeZone: Europe/Amsterdam, onRunning: kill, grace: 0s}
labels: {costCenter: "4711"}
`, pool.Spec{Name: "gpu-2", Kind: "batch", OS: "linux", Region: "westeurope", Sizes: []string{"Standard_NC4as_T4_v3"}, Capacity: "regular",
			Image: pool.Image{Publisher: "p", Offer: "o", SKU: "s", Version: "1.2.3"}, Nodes: pool.Range{Min: 1, Max: 1000},
			IdleTimeout: job.Duration(90 * time.Minute),
			Schedule:    &pool.Schedule{DownAt: "20:00", UpAt: "07:00", TimeZone: "Europe/Amsterdam", OnRunning: "kill"},
			Labels:      map[string]string{"costCenter": "4711"}}},
		{"an image of one's own", leastPool + "image: {id: /subscriptions/s/x}\n", with(func(s *pool.Spec) { s.Image = pool.Image{ID: "/subscriptions/s/x"} })},
		{"an image by its short name", leastPool + "image: UbuntuHPC\n", with(func(s *pool.Spec) { s.Image = pool.Image{Name: "UbuntuHPC"} })},
		{"an image in one text", leastPool + "image: 'p:o:s:latest'\n",
			with(func(s *pool.Spec) { s.Image = pool.Image{Publisher: "p", Offer: "o", SKU: "s", Version: "latest"} })},
		{"the id of an image as a text", leastPool + "image: /subscriptions/s/x\n", with(func(s *pool.Spec) { s.Image = pool.Image{ID: "/subscriptions/s/x"} })},
		{"no image", leastPool + "image: {}\n", plain},
		{"a share", leastPool + "share: {account: acmedata, name: models}\n", with(func(s *pool.Spec) {
			s.Shares = []pool.Share{{Account: "acmedata", Name: "models", Path: "/mnt/share", Protocol: "smb", Auth: "key"}}
		})},
		{"shares", leastPool + "share: [{account: a12, name: a-b, path: /data/a, auth: identity}, {account: a12, name: abc, path: /data/b, protocol: nfs}]\n",
			with(func(s *pool.Spec) {
				s.Shares = []pool.Share{{Account: "a12", Name: "a-b", Path: "/data/a", Protocol: "smb", Auth: "identity"},
					{Account: "a12", Name: "abc", Path: "/data/b", Protocol: "nfs"}}
			})},
		{"setup", leastPool + "setup: |\n  apt-get install -y jq\n", with(func(s *pool.Spec) { s.Setup = "apt-get install -y jq\n" })},
		{"the least of a schedule", leastPool + "schedule: {downAt: '20:00'}\n", with(func(s *pool.Spec) {
			s.Schedule = &pool.Schedule{DownAt: "20:00", TimeZone: "UTC", OnRunning: "wait", Grace: job.Duration(10 * time.Minute)}
		})},
		{"a time of day without quotes", leastPool + "schedule: {downAt: 20:00}\n", with(func(s *pool.Spec) {
			s.Schedule = &pool.Schedule{DownAt: "20:00", TimeZone: "UTC", OnRunning: "wait", Grace: job.Duration(10 * time.Minute)}
		})},
		{"the least for people", leastPool + "kind: interactive\n", with(func(s *pool.Spec) {
			s.Kind, s.Pack, s.Access = "interactive", false, []string{"relay"}
			s.Sessions = &pool.Sessions{IdleAfter: job.Duration(time.Hour), Warning: job.Duration(15 * time.Minute),
				MaxAge: job.Duration(120 * time.Hour), Home: "local", Jupyter: "lab"}
		})},
		{"everything for people", leastPool + `kind: interactive
sessions:
  resources: {cpus: 2, memory: 4Gi}
  perUser: 1
  spare: 2
  idleAfter: off
  warning: 5m
  maxAge: off
  home: share
  jupyter: off
  probe: pgrep rsync
  secrets: {HF_TOKEN: "keyvault:acme-ml/hf-token"}
share: {account: acme, name: homes, protocol: nfs}
access: [direct, relay]
users: {groups: [g], names: [ann@contoso.com]}
`, with(func(s *pool.Spec) {
			s.Kind, s.Access = "interactive", []string{"direct", "relay"}
			s.Sessions = &pool.Sessions{Resources: job.Resources{CPUs: 2, Memory: 4 * job.Gi}, Spare: 2, Warning: job.Duration(5 * time.Minute),
				Home: "share", Jupyter: "off", Probe: "pgrep rsync", Secrets: map[string]string{"HF_TOKEN": "keyvault:acme-ml/hf-token"}}
			s.Shares = []pool.Share{{Account: "acme", Name: "homes", Path: "/mnt/share", Protocol: "nfs"}}
			s.Users = pool.Members{Groups: []string{"g"}, Names: []string{"ann@contoso.com"}}
		})},
		{"desktops", leastPool + "kind: interactive\nsessions: {desktop: rdp}\n", with(func(s *pool.Spec) {
			s.Kind, s.Pack, s.Access = "interactive", false, []string{"relay"}
			s.Sessions = &pool.Sessions{IdleAfter: job.Duration(time.Hour), Warning: job.Duration(15 * time.Minute),
				MaxAge: job.Duration(120 * time.Hour), Home: "local", Jupyter: "lab", Desktop: "rdp"}
		})},
		{"Windows", leastPool + "kind: interactive\nos: windows\nlicense: Windows_Server\n", with(func(s *pool.Spec) {
			s.Kind, s.OS, s.License, s.Pack, s.Access = "interactive", "windows", "Windows_Server", false, []string{"relay"}
			s.Image = pool.Image{Name: "WindowsDSVM"}
			s.Sessions = &pool.Sessions{IdleAfter: job.Duration(time.Hour), Warning: job.Duration(15 * time.Minute),
				MaxAge: job.Duration(120 * time.Hour), Home: "local", Jupyter: "off", Desktop: "rdp"}
		})},
		{"a node of one's own", leastPool + "kind: interactive\nsessions: {resources: {cpus: all}, sudo: true}\n", with(func(s *pool.Spec) {
			s.Kind, s.Pack, s.Access = "interactive", false, []string{"relay"}
			s.Sessions = &pool.Sessions{IdleAfter: job.Duration(time.Hour), Warning: job.Duration(15 * time.Minute),
				MaxAge: job.Duration(120 * time.Hour), Home: "local", Jupyter: "lab", Sudo: true}
		})},
		{"lists and objects with nothing in them", leastPool + "limits: {}\nlabels: {}\nimage: {}\n", plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := pool.Parse([]byte(c.body), "")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// Each row is what a person reads who wrote this.
func TestParseSpecRefuses(t *testing.T) {
	t.Parallel()
	const nodes = "nodes: {max: 4}\n"
	const sizes = "sizes: [Standard_D4s_v5]\n"
	const people = leastPool + "kind: interactive\n"
	for _, c := range []struct{ name, body, field, message string }{
		{"no name", sizes + nodes, "name", "`name` is \"\"; a pool's name has 1 to 24 characters of a-z 0-9 -"},
		{"capitals in the name", "name: CPU\n" + sizes + nodes, "name", "line 1: `name` is \"CPU\"; a pool's name has 1 to 24 characters of a-z 0-9 -"},
		{"sessions of a batch pool", leastPool + "sessions: {spare: 1}\n", "sessions",
			"line 4: `sessions` is for pools of `kind: interactive`, in which people work; leave it out, or change `kind`"},
		{"a slip in sessions", people + "sessions:\n  idleAfer: 1h\n", "sessions.idleAfer",
			"line 6: there is no field `sessions.idleAfer`; did you mean `idleAfter`?"},
		{"two sessions for each", people + "sessions: {perUser: 2}\n", "sessions.perUser",
			"line 5: `sessions.perUser` is 2, and more than one session of a person in a pool is not supported yet; leave it out"},
		{"pack with people", people + "pack: true\n", "pack",
			"line 5: `pack` is for batch pools; `sessions.resources` says whether people share a node: leave `pack` out"},
		{"weights with people", people + "weights: {a: 2}\n", "weights",
			"line 5: `weights` is for batch pools, whose jobs wait in line: leave it out; `limits` bounds what each team has"},
		{"people put back in line", people + "schedule: {downAt: '20:00', onRunning: requeue}\n", "schedule",
			"line 5: `schedule.onRunning` is requeue, and a session cannot begin again elsewhere; write wait, or kill, " +
				"which warns and ends them after `grace`"},
		{"another notebook", people + "sessions: {jupyter: vim}\n", "sessions.jupyter", "line 5: `sessions.jupyter` is \"vim\"; write lab, hub or off"},
		{"a home on SMB", people + "sessions: {home: share}\n", "sessions.home", "line 5: `sessions.home: share` is not supported yet on SMB, " +
			"which keeps no owners of files; write local, or a `share` at /mnt/share with `protocol: nfs`"},
		{"a secret itself", people + "sessions:\n  secrets: {TOKEN: hunter2}\n", "sessions.secrets.TOKEN", "line 6: `sessions.secrets.TOKEN` is no reference " +
			"to a secret; write keyvault:VAULT/SECRET, with the name of a Key Vault (3 to 24 of A-Z a-z 0-9 -) and that of a secret in it (1 to 127 of A-Z a-z 0-9 -)"},
		{"a secret of no name", people + "sessions:\n  secrets: {a-b: 'keyvault:acme-ml/a'}\n", "sessions.secrets.a-b", "line 6: `sessions.secrets` has the name " +
			"\"a-b\"; a name has letters, digits and _, and does not begin with a digit"},
		{"the key of a share", people + "sessions:\n  secrets: {A: 'keyvault:acme-ml/share-key'}\n", "sessions.secrets.A", "line 6: `sessions.secrets.A` names the key " +
			"of a share by its secret's name, which no job may have: it opens the files of all; give a secret of your own another name"},
		{"another home", people + "sessions: {home: moon}\n", "sessions.home", "line 5: `sessions.home` is \"moon\"; write local or share"},
		{"sudo beside others", people + "sessions: {sudo: true, resources: {cpus: 2}}\n", "sessions.sudo", "line 5: `sessions.sudo` makes a person " +
			"root of the node, over everybody there; write `cpus: all` in `sessions.resources`, so that nobody else is there, or leave `sudo` out"},
		{"no warning", people + "sessions: {warning: 0s}\n", "sessions.warning", "line 5: `sessions.warning` is 0s; write at least 1s: " +
			"nobody's work ends unwarned. With `idleAfter: off` no session ends for idleness"},
		{"idle at once", people + "sessions: {idleAfter: 10ms}\n", "sessions.idleAfter", "line 5: `sessions.idleAfter` is 10ms; write at least 1s, or off"},
		{"some cpus", people + "sessions: {resources: {cpus: some}}\n", "sessions.resources.cpus",
			"line 5: `sessions.resources.cpus` is a text; write a number of cpus, or all for a node of one's own"},
		{"a large slot", people + "sessions: {resources: {cpus: 8}}\n", "sessions.resources",
			"line 5: `sessions.resources` is more than a node of any of the `sizes` has; ask for less, or name a larger size"},
		{"a way twice", people + "access: [relay, direct, relay]\n", "access", "line 5: `access` names relay twice; name each way once"},
		{"a balancer that nobody takes", people + "access: [direct]\nbalancer: {keep: true}\n", "balancer",
			"line 6: `balancer` is there and `access` does not name it; add balancer to `access`, or leave it out"},
		{"a balancer of a batch pool", leastPool + "balancer: {keep: true}\n", "balancer",
			"line 4: `balancer` is for pools of `kind: interactive`, in which people work; leave it out, or change `kind`"},
		{"no way in", people + "access: []\n", "access", "line 5: `access` is empty; name relay, direct or balancer, or leave it out"},
		{"another way in", people + "access: [ssh]\n", "access", "line 5: `access` has \"ssh\"; write relay, direct or balancer, the preferred one first"},
		{"nobody", people + "users: {names: ['']}\n", "users.names", "line 5: `users.names` has an entry of 0 bytes; write 1 to 256"},
		{"an unknown kind", leastPool + "kind: grid\n", "kind", "line 4: `kind` is \"grid\"; write batch or interactive"},
		{"windows", leastPool + "os: windows\n", "os", "line 4: `os: windows` is not possible: nothing brings the agent to such a node yet; leave `os` out, and run what needs Windows on a VM of its own"},
		{"an unknown desktop", people + "sessions: {desktop: vnc}\n", "sessions.desktop", "line 5: `sessions.desktop` is \"vnc\"; write rdp or off"},
		{"Windows without the relay", people + "os: windows\naccess: [direct]\n", "access",
			"line 6: `access` lacks relay, by which alone people come to nodes of Windows; add it"},
		{"Windows without a desktop", people + "os: windows\nsessions: {desktop: off}\n", "sessions.desktop",
			"line 6: `sessions.desktop` is off, and by RDP alone people come to Windows; leave it out"},
		{"JupyterLab of ours on Windows", people + "os: windows\nsessions: {jupyter: lab}\n", "sessions.jupyter",
			"line 6: `sessions.jupyter` is not supported with `os: windows`; leave it out, and start JupyterLab on the desktop"},
		{"sudo on Windows", people + "os: windows\nsessions: {sudo: true, resources: {cpus: all}}\n", "sessions.sudo",
			"line 6: `sessions.sudo` is for Linux; leave it out"},
		{"a probe on Windows", people + "os: windows\nsessions: {probe: exit 0}\n", "sessions.probe",
			"line 6: `sessions.probe` is a script for Linux; leave it out"},
		{"an image of Linux with Windows", people + "os: windows\nimage: UbuntuDSVM\n", "image",
			"line 6: `image` is none of Windows; write WindowsDSVM, another image of Windows, or the resource ID of one"},
		{"an image of Windows with Linux", leastPool + "image: WindowsDSVM\n", "image",
			"line 4: `image` is one of Windows, and the nodes of the pool run Linux; name another, or write `os: windows`"},
		{"a setup on Windows", people + "os: windows\nsetup: exit 0\n", "setup",
			"line 6: `setup` is a script for Linux, and not possible with `os: windows`; put what it installs into an image of your own"},
		{"a share on Windows", people + "os: windows\nshare: {account: contoso, name: work, path: /mnt/work}\n", "share",
			"line 6: `share` is not supported yet with `os: windows`; leave it out"},
		{"an unknown license", people + "os: windows\nlicense: mine\n", "license",
			"line 6: `license` is \"mine\"; write Windows_Server or Windows_Client if you have that license, or leave it out"},
		{"a license on Linux", leastPool + "license: Windows_Server\n", "license", "line 4: `license` is for pools of `os: windows`; leave it out"},
		{"an unknown os", leastPool + "os: plan9\n", "os", "line 4: `os` is \"plan9\"; write linux or windows"},
		{"no sizes", "name: cpu\n" + nodes, "sizes", "`sizes` is missing; name a VM size, for example [\"Standard_D4s_v5\"]"},
		{"a size twice", "name: cpu\nsizes: [Standard_D4s_v5, standard_d4s_v5]\n" + nodes, "sizes", "line 2: `sizes` has \"standard_d4s_v5\"; a VM size looks like Standard_D4s_v5, and stands in the list once"},
		{"too many sizes", "name: cpu\nsizes: [Standard_D2s_v5, Standard_D4s_v5, Standard_D8s_v5, Standard_D16s_v5, Standard_D32s_v5, Standard_D64s_v5]\n" + nodes, "sizes", "line 2: `sizes` names 6 sizes; name at most 5"},
		{"a size without its family", "name: cpu\nsizes: [D4s_v5]\n" + nodes, "sizes", "line 2: `sizes` has \"D4s_v5\"; a VM size looks like Standard_D4s_v5, and stands in the list once"},
		{"a size as a text", "name: cpu\nsizes: Standard_D4s_v5\n" + nodes, "sizes", "line 2: `sizes` is a text; write a list, for example [\"Standard_D4s_v5\"]"},
		{"an unknown capacity", leastPool + "capacity: free\n", "capacity", "line 4: `capacity` is \"free\"; write regular, spot or spot-then-regular"},
		{"half an image", leastPool + "image: {publisher: p}\n", "image", "line 4: `image` needs publisher, offer, sku and version, or `id` alone, or a short name such as UbuntuDSVM alone"},
		{"two images", leastPool + "image: {id: /x, publisher: p, offer: o, sku: s, version: v}\n", "image", "line 4: `image` needs publisher, offer, sku and version, or `id` alone, or a short name such as UbuntuDSVM alone"},
		{"no nodes", "name: cpu\n" + sizes, "nodes.max", "`nodes.max` is missing; write how many nodes the pool may have, such as nodes: {max: 4}"},
		{"too many nodes", "name: cpu\n" + sizes + "nodes: {max: 1001}\n", "nodes.max", "line 3: `nodes.max` is 1001; write a whole number from 1 to 1000"},
		{"fewer than no nodes", "name: cpu\n" + sizes + "nodes: {min: -1, max: 4}\n", "nodes.min", "line 3: `nodes.min` is -1; write a whole number from 0 to 1000"},
		{"more at least than at most", "name: cpu\n" + sizes + "nodes: {min: 5, max: 4}\n", "nodes.min", "line 3: `nodes.min` is 5; write 0 to `nodes.max`, which is 4"},
		{"a short idleTimeout", leastPool + "idleTimeout: 10ms\n", "idleTimeout", "line 4: `idleTimeout` is 10ms; write at least 1s"},
		{"no idleTimeout", leastPool + "idleTimeout: never\n", "idleTimeout", "line 4: `idleTimeout`: \"never\" is not a duration; write 90s, 15m, 2h or 1d"},
		{"a long name", "name: " + strings.Repeat("a", 5000) + "\n" + sizes + nodes, "name",
			"line 1: `name` is \"" + strings.Repeat("a", 60) + "...\"; a pool's name has 1 to 24 characters of a-z 0-9 -"},
		{"no grace", leastPool + "schedule: {downAt: '20:00', grace: some}\n", "schedule.grace",
			"line 4: `schedule.grace`: \"some\" is not a duration; write 90s, 15m, 2h or 1d"},
		{"yes for pack", leastPool + "pack: yes\n", "pack", "line 4: `pack` is a text; write a boolean, for example true"},
		{"a slip", leastPool + "schedule:\n  donwAt: '20:00'\n", "schedule.donwAt", "line 5: there is no field `schedule.donwAt`; did you mean `downAt`?"},
		{"no downAt", leastPool + "schedule: {upAt: '07:00'}\n", "schedule.downAt", "line 4: `schedule.downAt` is \"\"; write a time of day as HH:MM, in quotes"},
		{"an hour too late", leastPool + "schedule: {downAt: '24:00'}\n", "schedule.downAt", "line 4: `schedule.downAt` is \"24:00\"; write a time of day as HH:MM, in quotes"},
		{"up when it goes down", leastPool + "schedule: {downAt: '20:00', upAt: '20:00'}\n", "schedule.upAt",
			"line 4: `schedule.upAt` is \"20:00\"; write a time of day as HH:MM, in quotes, other than downAt"},
		{"an unknown time zone", leastPool + "schedule: {downAt: '20:00', timeZone: Europe/Utrecht}\n", "schedule.timeZone",
			"line 4: `schedule.timeZone` is \"Europe/Utrecht\"; write a name like Europe/Amsterdam or UTC"},
		{"the machine's time zone", leastPool + "schedule: {downAt: '20:00', timeZone: Local}\n", "schedule.timeZone",
			"line 4: `schedule.timeZone` is \"Local\"; write a name like Europe/Amsterdam or UTC"},
		{"a path as time zone", leastPool + "schedule: {downAt: '20:00', timeZone: ../../etc/passwd}\n", "schedule.timeZone",
			"line 4: `schedule.timeZone` is \"../../etc/passwd\"; write a name like Europe/Amsterdam or UTC"},
		{"an unknown onRunning", leastPool + "schedule: {downAt: '20:00', onRunning: stop}\n", "schedule.onRunning",
			"line 4: `schedule.onRunning` is \"stop\"; write wait, requeue or kill"},
		{"an unknown image", leastPool + "image: Debian\n", "image",
			"line 4: `image` is \"Debian\"; write Ubuntu2404, UbuntuDSVM, UbuntuHPC, WindowsDSVM, the four parts as publisher:offer:sku:version, or the resource ID of an image"},
		{"an image as a number", leastPool + "image: 5\n", "image", "line 4: `image` is a number; write an object, for example \"UbuntuDSVM\""},
		{"an id with a blank", leastPool + "image: {id: '/a b'}\n", "image",
			"line 4: `image` has the id \"/a b\"; write the whole resource ID of an image, which begins with /subscriptions/"},
		{"a share without its account", leastPool + "share: {name: s}\n", "share.account",
			"line 4: `share.account` is \"\"; the name of a storage account has 3 to 24 characters of a-z 0-9"},
		{"a share with capitals", leastPool + "share: {account: acme, name: Data}\n", "share.name",
			"line 4: `share.name` is \"Data\"; the name of a share has 3 to 63 characters of a-z 0-9 -, no - at an end, and no two together"},
		{"a share with a slip", leastPool + "share: [{account: acme, name: data, mount: /x}]\n", "share[0].mount",
			"line 4: there is no field `share[0].mount`; the known ones are account, name, path, protocol, auth"},
		{"a share as a text", leastPool + "share: data\n", "share", "line 4: `share` is a text; write an object, for example {\"account\": \"acmedata\", \"name\": \"data\", \"path\": \"/mnt/data\"}"},
		{"a relative path", leastPool + "share: {account: acme, name: data, path: data}\n", "share.path",
			"line 4: `share.path` is \"data\"; write an absolute path of A-Z a-z 0-9 . _ - and /, without . and .., such as /mnt/data"},
		{"a path with a way up", leastPool + "share: {account: acme, name: data, path: /mnt/../etc}\n", "share.path",
			"line 4: `share.path` is \"/mnt/../etc\"; write an absolute path of A-Z a-z 0-9 . _ - and /, without . and .., such as /mnt/data"},
		{"a path of the system", leastPool + "share: {account: acme, name: data, path: /usr/local}\n", "share.path",
			"line 4: `share.path` is /usr/local, which the node needs itself; write another, such as /mnt/data"},
		{"a path in the deployment's share", leastPool + "share: {account: acme, name: data, path: /mnt/share/a}\n", "share.path",
			"line 4: `share.path` is /mnt/share/a, which lies in the deployment's share; write a path beside /mnt/share, such as /mnt/data"},
		{"two shares at one path", leastPool + "share: [{account: acme, name: data}, {account: acme, name: more}]\n", "share[1].path",
			"line 4: `share[1].path` is /mnt/share, and another share is at /mnt/share; give each a path of its own, none below another"},
		{"another protocol", leastPool + "share: {account: acme, name: data, protocol: ftp}\n", "share.protocol", "line 4: `share.protocol` is \"ftp\"; write smb or nfs"},
		{"another login", leastPool + "share: {account: acme, name: data, auth: password}\n", "share.auth", "line 4: `share.auth` is \"password\"; write key or identity"},
		{"a login for NFS", leastPool + "share: {account: acme, name: data, protocol: nfs, auth: key}\n", "share.auth",
			"line 4: `share.auth` is \"key\", and NFS has no login: who is in the network may mount the share; leave `auth` out"},
		{"a long setup", leastPool + "setup: " + strings.Repeat("a", 16<<10+1) + "\n", "setup",
			"line 4: `setup` has 16385 bytes; shorten it to 16384, and put what is longer on the share"},
		{"a blank setup", leastPool + "setup: \" \"\n", "setup", "line 4: `setup` is blank; write what a node runs before it takes work, or leave it out"},
		{"limits", leastPool + "limits: {default: {nodes: 1}}\n", "limits.default.nodes", "line 4: there is no field `limits.default.nodes`; the known ones are jobs, cpus, gpus"},
		{"limits of a team", leastPool + "limits: {team: {vision: {gpus: -1}}}\n", "limits.team.vision.gpus", "line 4: `limits.team.vision.gpus` is -1; write a whole number from 0 to 1000000"},
		{"weights", leastPool + "weights: {a: 0}\n", "weights.a", "line 4: `weights.a` is 0; write a whole number from 1 to 1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := pool.Parse([]byte(c.body), "")
			var f *fault.Error
			if !errors.As(err, &f) {
				t.Fatalf("got %v, want a refusal: %s", err, c.message)
			}
			if f.Code != fault.Invalid || f.Field != c.field || f.Message != c.message {
				t.Errorf("got  %s [%s] %s\nwant %s [%s] %s", f.Code, f.Field, f.Message, fault.Invalid, c.field, c.message)
			}
		})
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{leastPool, leastPool + "schedule: {downAt: '20:00', upAt: '07:00', timeZone: Europe/Amsterdam}\n",
		`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":4},"image":{"id":"/x"}}`, "name: &a cpu\nregion: *a\n",
		leastPool + "image: a:b:c:d\nshare: [{account: acme, name: data}, {account: acme, name: more, path: /x, protocol: nfs}]\nsetup: x\n",
		leastPool + "kind: interactive\nsessions: {resources: {cpus: 2}, maxAge: off, spare: 1}\nusers: {names: [a]}\n"} {
		f.Add([]byte(seed), "")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		s, err := pool.Parse(body, contentType)
		if err != nil {
			var refusal *fault.Error
			if !errors.As(err, &refusal) || refusal.Code != fault.Invalid || refusal.Message == "" ||
				len(refusal.Message)+len(refusal.Field) > 1000 {
				t.Fatalf("got %#v, want a short refusal", err)
			}
			return
		}
		stored, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if len(stored) > 32<<10 { // escapes may make it longer than a document may be
			return
		}
		again, err := pool.Parse(stored, "application/json")
		if err != nil {
			t.Fatal(err)
		}
		if stored2, err := json.Marshal(again); err != nil || string(stored2) != string(stored) {
			t.Fatalf("got %s, %v, want %s", stored2, err, stored)
		}
		if s.Schedule != nil {
			s.Schedule.Window(time.Unix(0, 0))
		}
	})
}
