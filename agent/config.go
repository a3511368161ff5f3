package agent

import (
	"cmp"
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"dsvmpools/agent/deleteself"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/identity"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/protocol"
)

// Defaults of the settings.
const (
	defaultSessionVotes  = time.Minute      // people wait for nothing that depends on it; each count costs milliseconds
	defaultSessionGrace  = time.Minute      // editors and kernels save what they have
	defaultReportEvery   = time.Minute      // the table of times: a healthy node speaks at least this often
	defaultStartedWithin = time.Second      // long enough for a short job to cost one message, short enough for a person who watches
	defaultKillGrace     = 10 * time.Second // time to write a checkpoint, short enough for a drain
	defaultSourceTimeout = 30 * time.Minute // what takes longer hangs, or belongs on the share
	defaultStartWithin   = 2 * time.Minute  // a share takes seconds on a bad day; what takes longer hangs
	stageAfter           = 2 * time.Second  // most boots pass all stages within it, and cost no report
	defaultSetupTimeout  = 15 * time.Minute // half of the time that a node has to boot: another try fits in
	gpusWithin           = 10 * time.Minute // a driver loads within a minute; a node without GPUs is given up then
	defaultHandOver      = 5 * time.Minute  // a share gives away some hundred files a second
	defaultLogBound      = 1 * job.Gi       // more than anybody reads, and little of a share
	defaultSourceCache   = 10 * job.Gi      // some repositories, and little of a node's disk
)

// defaultGPUDevices are the files by which the driver of NVIDIA shows a node's
// GPUs: one each, numbered from 0.
const defaultGPUDevices = "/dev/nvidia[0-9]*"

// gpuDevices is the default of DSVM_GPU_DEVICES: on Windows the driver shows no files.
func gpuDevices() string {
	if runtime.GOOS == "windows" {
		return noGPUDevices
	}
	return defaultGPUDevices
}

// noGPUDevices as DSVM_GPU_DEVICES has the agent look for none: on a machine that
// only plays sizes with GPUs.
const noGPUDevices = "none"

// Config holds the settings of an agent. ReadConfig fills it from the environment:
//
//   - DSVM_POOL: name of the node's pool. Required.
//   - DSVM_VMID: VMID of the node, in any case. Required.
//   - DSVM_NODE: instance name of the node. Default: the VMID.
//   - DSVM_SIZE: VM size of the node, as it is reported. Default: empty, unknown.
//   - DSVM_NODE_ADDRESS: where other nodes find this one. Default: the address of
//     the interface that leads outside.
//   - DSVM_METADATA_ENDPOINT: the node's metadata endpoint, on a VM
//     http://169.254.169.254. The four settings above may be left out then: the
//     agent asks it. Without it the agent does not learn that its VM is evicted.
//     Default: empty, there is none.
//   - DSVM_INSTANCE_DIR: local directory for the journal and the scratch
//     directories; it outlives a restart of the agent. Required.
//   - SHARE_PATH: where the share is mounted; logs and outputs go there. Required.
//   - ServiceBusConnection: connection string. Required, or the next.
//   - ServiceBusConnection__fullyQualifiedNamespace: namespace, reached with the
//     node's identity. Used when ServiceBusConnection is empty.
//   - AZURE_CLIENT_ID: client id of the node's identity, where its VM has several.
//     Default: empty, it has one.
//   - DSVM_CPUS: processors the node offers, a number from 1. Default: the
//     number of processors of the machine.
//   - DSVM_REPORT_EVERY: a duration; at least this often everything that the
//     node holds is reported. Default: 60s.
//   - DSVM_STARTED_WITHIN: a duration; the start of an attempt waits at most this
//     long for another report to ride on. Default: 1s.
//   - DSVM_START_WITHIN: a duration; an attempt whose process, or whose fetching, has
//     not begun so long after it came ends as one that could not start, over the
//     node. Each look at the share is given up after this time too. Default: 2m.
//   - DSVM_HAND_OVER_WITHIN: a duration; the end of an attempt is reported when the files
//     that it has made are given to their owner, or after this time. Default: 5m.
//   - DSVM_SHARE_MOUNTED: true = SHARE_PATH must be the root of a mounted file
//     system; without one the share counts as missing. Default: false.
//   - DSVM_SETUP_TIMEOUT: a duration; the pool's setup script takes at most this long.
//     Default: 15m.
//   - DSVM_BOOT_ID: a name of this start of the instance, in each of which setup runs
//     once. Default: that of the boot of the machine.
//   - DSVM_GPU_DEVICES: pattern of the files that show the node's GPUs; a node takes no
//     work before those of its size are shown, and an attempt with GPUs that are not
//     shown does not start. none = nothing is looked for.
//     Default: /dev/nvidia[0-9]*.
//   - DSVM_LOG_BOUND: an amount; the most that is kept of each log of an attempt, of
//     which the middle is cut out; 512Ki at the least. 0 = everything is kept, and
//     attempts write their logs themselves. Default: 1Gi.
//   - DSVM_SYNC_COUNT: path of a file in whose first 8 bytes the agent counts its syncs,
//     for programs that measure. Default: empty, none.
//   - DSVM_KILL_GRACE: a duration; time between SIGTERM and SIGKILL when an
//     attempt is ended. Default: 10s.
//   - DSVM_JOB_USER: unprivileged user that attempts run as when the agent is
//     root. Default: empty, the agent's own user.
//   - DSVM_JOB_UIDS: users by number, BASE-COUNT, of which each place for an attempt
//     gets one when the agent is root on Linux; off = all attempts run as
//     DSVM_JOB_USER. Default: 1900000000-4096.
//   - DSVM_CREDENTIALS_DIR: folder of files, one for each credential that a
//     job's source may name. Default: empty, there are none.
//   - DSVM_SECRETS_FILE: file with the secrets that jobs may name, by vault/secret, in
//     the place of vaults. Default: empty, the node's identity reads them from vaults.
//   - DSVM_VAULT_SUFFIX: what the host names of vaults end with. Default:
//     vault.azure.net.
//   - DSVM_SOURCE_TIMEOUT: a duration; fetching a job's source takes at most this
//     long. Default: 30m.
//   - DSVM_SOURCE_CACHE: an amount; what is kept of repositories for the next
//     attempt, and the most that is fetched at once. 0 = nothing is kept, and any
//     amount fetched. Default: 10Gi.
//   - DSVM_SOURCE_LOCAL: true = sources may be file:// of this machine though jobs
//     run as another user than the agent, who reads them. Default: false.
//   - DSVM_ALLOW_PRIVATE_HOSTS: hosts and networks, with commas, that sources may
//     be on although their addresses are private. Default: empty, none.
//   - DSVM_DELETE_SELF: true = a node that runs nothing and has had no word from its
//     pool for DSVM_ALONE_AFTER, a duration, deletes its VM with its own identity.
//     Defaults: false; 6h.
//   - DSVM_POWER_OFF: command, in words, that powers the machine off, for such a node
//     that does not delete itself, or cannot. Default: empty, it is left on.
//   - AZURE_RESOURCE_MANAGER_ENDPOINT: where a node deletes itself. Default: empty,
//     the resource manager of the public cloud.
//   - HTTPS_PROXY, NO_PROXY: how sources are reached.
//   - GIT_SSL_CAINFO: handed to git when it fetches.
//   - DSVM_JUPYTER: path of the program jupyter, for sessions of people. Default: empty,
//     where images have it.
//   - DSVM_OWN_USERS: true = the machine is not the node's own, so that accounts of people
//     are made in a layer above its /etc, seen by their session alone. Default: false.
//   - DSVM_DOOR_LISTEN: where the door of the node listens by TCP for sessions that have
//     other ways than the relay: :PORT, IP:PORT, with port 0 for any that is free; off = it
//     does not. Default: :443.
//   - DSVM_DOOR_CERTIFICATE: path of a file, or keyvault:VAULT/SECRET, with a key and its certificates in PEM, by which
//     browsers know the door. Default: empty, the door makes one for itself.
//   - DSVM_SESSION_VOTES: a duration; how often it is counted whether a session is used.
//     Default: 1m.
//   - DSVM_SESSION_GRACE: a duration; time between the end of a session and the killing of
//     what still runs in it. Default: 1m.
//   - WORK_QUEUE: name of the queue with the nodes' sessions. Default: work.
//   - NODE_EVENTS_QUEUE: name of the queue for reports. Default: node-events.
type Config struct {
	Pool                string
	VMID                string // lower case
	Node                string
	Size                string
	Address             string // "" = that of the interface that leads outside
	Metadata            string // URL; "" = there is none
	InstanceDir         string // absolute
	Share               string // absolute
	ServiceBus          string // connection string; a secret
	ServiceBusNamespace string
	CPUs                int
	ReportEvery         time.Duration
	StartedWithin       time.Duration
	KillGrace           time.Duration
	JobUser             string
	UIDs                uidRange // count 0 = slots have no users of their own
	Credentials         string   // absolute; "" = there are none
	SourceTimeout       time.Duration
	SourceCache         job.Bytes
	LogBound            job.Bytes // of each log; 0 = none
	SourceLocal         bool
	AllowPrivate        outbound.Guard
	StartWithin         time.Duration
	HandOverWithin      time.Duration
	ShareMounted        bool
	GPUDevices          string // a pattern; "" = nothing is looked for
	AloneAfter          time.Duration
	PowerOff            []string // argv; none = the machine is left on
	GitEnv              []string // NAME=value
	WorkQueue           string
	NodeEventsQueue     string
	Log                 *slog.Logger // nil = nothing is logged

	SyncCount       string // path of a file; "" = the syncs are not counted in one
	SecretsFile     string // absolute; "" = secrets are read from vaults
	VaultSuffix     string // "" = that of the public cloud
	SetupTimeout    time.Duration
	BootID          string // of the instance; "" = that of the machine
	DeleteSelf      bool
	ResourceManager string // URL; "" = that of the public cloud

	nvidiaSMI  string                          // for tests: in the place of nvidia-smi
	stageAfter time.Duration                   // how long a stage of the boot lasts before it is reported
	setupPause time.Duration                   // for tests: before setup is tried again
	gpusWithin time.Duration                   // how long GPUs may take to show
	getenv     func(string) string             // of the node's identity
	identity   azcore.TokenCredential          // of the node; nil = it has none
	clientID   string                          // of the identity; "" = not known
	deleteSelf func(ctx context.Context) error // nil = the node does not delete itself

	//lint:ignore U1000 of Linux alone
	holdBy   int           // for tests: how processes are held; 0 = the best there is
	quickEnd time.Duration // for tests: 0 = as the constant

	Jupyter         string        // program; "" = where images have it
	OwnUsers        bool          // the machine is not the node's own: people have accounts in a world apart
	DoorListen      string        // IP:PORT, :PORT or off; "" = off
	DoorCertificate string        // absolute path, or keyvault:VAULT/SECRET; "" = the door makes one
	SessionVotes    time.Duration // between two counts of the votes of a session
	SessionGrace    time.Duration // between the end of a session and the killing of what runs in it

	network bool // for tests: the share is taken for one on a network
	//lint:ignore U1000 of Linux alone
	// for tests: the share is taken for one without owners of files, which does this to new ones
	ownerless func(root *os.Root, names ...string)
}

// uidRange is users by number, from base.
type uidRange struct{ base, count int }

func (u uidRange) has(uid int) bool { return uid >= u.base && uid < u.base+u.count }

// defaultUIDs lies where neither systemd, nor distributions, nor containers give out
// numbers (systemd's UIDS-GIDS document, "unused" from 1879048192), and is more than
// the slots of the largest machine.
var defaultUIDs = uidRange{base: 1_900_000_000, count: 4096}

// maxUID is the largest number of a user that every system call takes.
const maxUID = 1<<31 - 2

// readUIDs reads DSVM_JOB_UIDS: BASE-COUNT, or off.
func readUIDs(text string) (uidRange, error) {
	switch text {
	case "":
		return defaultUIDs, nil
	case "off":
		return uidRange{}, nil
	}
	base, count, ok := strings.Cut(text, "-")
	b, err1 := strconv.Atoi(base)
	n, err2 := strconv.Atoi(count)
	if !ok || err1 != nil || err2 != nil || b < 1 || n < 1 || n > maxUID || b > maxUID-n {
		return uidRange{}, fault.New(fault.Invalid, "DSVM_JOB_UIDS",
			"DSVM_JOB_UIDS is %q; write the first number and how many, such as 1900000000-4096, or off", text)
	}
	return uidRange{b, n}, nil
}

var (
	vmidPattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

// ReadConfig reads the settings. Errors are *fault.Error with code Invalid and
// the setting's name.
func ReadConfig(getenv func(string) string) (Config, error) {
	or := func(name, fallback string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return fallback
	}
	c := Config{
		getenv:              getenv,
		clientID:            getenv(identity.ClientID),
		gpusWithin:          gpusWithin,
		stageAfter:          stageAfter,
		SetupTimeout:        defaultSetupTimeout,
		BootID:              getenv("DSVM_BOOT_ID"),
		SyncCount:           getenv("DSVM_SYNC_COUNT"),
		SecretsFile:         getenv("DSVM_SECRETS_FILE"),
		VaultSuffix:         getenv("DSVM_VAULT_SUFFIX"),
		Pool:                getenv("DSVM_POOL"),
		VMID:                strings.ToLower(getenv("DSVM_VMID")),
		Size:                getenv("DSVM_SIZE"),
		Node:                getenv("DSVM_NODE"),
		Address:             getenv("DSVM_NODE_ADDRESS"),
		Metadata:            getenv("DSVM_METADATA_ENDPOINT"),
		InstanceDir:         getenv("DSVM_INSTANCE_DIR"),
		Share:               getenv("SHARE_PATH"),
		ServiceBus:          getenv("ServiceBusConnection"),
		ServiceBusNamespace: getenv("ServiceBusConnection__fullyQualifiedNamespace"),
		CPUs:                runtime.NumCPU(),
		ReportEvery:         defaultReportEvery,
		StartedWithin:       defaultStartedWithin,
		KillGrace:           defaultKillGrace,
		JobUser:             getenv("DSVM_JOB_USER"),
		Credentials:         getenv("DSVM_CREDENTIALS_DIR"),
		SourceTimeout:       defaultSourceTimeout,
		SourceCache:         defaultSourceCache,
		LogBound:            defaultLogBound,
		AloneAfter:          defaultAloneAfter,
		DeleteSelf:          getenv("DSVM_DELETE_SELF") == "true",
		ResourceManager:     getenv(deleteself.Endpoint),
		PowerOff:            strings.Fields(getenv("DSVM_POWER_OFF")),
		StartWithin:         defaultStartWithin,
		HandOverWithin:      defaultHandOver,
		ShareMounted:        getenv("DSVM_SHARE_MOUNTED") == "true",
		GPUDevices:          or("DSVM_GPU_DEVICES", gpuDevices()),
		SourceLocal:         getenv("DSVM_SOURCE_LOCAL") == "true",
		Jupyter:             getenv("DSVM_JUPYTER"),
		OwnUsers:            getenv("DSVM_OWN_USERS") == "true",
		DoorCertificate:     getenv("DSVM_DOOR_CERTIFICATE"),
		DoorListen:          or("DSVM_DOOR_LISTEN", defaultDoorListen),
		SessionVotes:        defaultSessionVotes,
		SessionGrace:        defaultSessionGrace,
		WorkQueue:           or("WORK_QUEUE", protocol.WorkQueue),
		NodeEventsQueue:     or("NODE_EVENTS_QUEUE", protocol.NodeEventsQueue),
	}
	if v := getenv("DSVM_CPUS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return c, fault.New(fault.Invalid, "DSVM_CPUS", "DSVM_CPUS is %q; write a number from 1", v)
		}
		c.CPUs = n
	}
	for _, d := range []struct {
		name string
		into *time.Duration
	}{
		{"DSVM_REPORT_EVERY", &c.ReportEvery},
		{"DSVM_STARTED_WITHIN", &c.StartedWithin},
		{"DSVM_KILL_GRACE", &c.KillGrace},
		{"DSVM_SOURCE_TIMEOUT", &c.SourceTimeout},
		{"DSVM_ALONE_AFTER", &c.AloneAfter},
		{"DSVM_START_WITHIN", &c.StartWithin},
		{"DSVM_SETUP_TIMEOUT", &c.SetupTimeout},
		{"DSVM_HAND_OVER_WITHIN", &c.HandOverWithin},
		{"DSVM_SESSION_VOTES", &c.SessionVotes},
		{"DSVM_SESSION_GRACE", &c.SessionGrace},
	} {
		if v := getenv(d.name); v != "" {
			parsed, err := job.ParseDuration(v)
			if err != nil {
				return c, fault.New(fault.Invalid, d.name, "%s: %v", d.name, err)
			}
			*d.into = time.Duration(parsed)
		}
	}
	if v := getenv("DSVM_SOURCE_CACHE"); v != "" {
		size, err := job.ParseBytes(v)
		if err != nil {
			return c, fault.New(fault.Invalid, "DSVM_SOURCE_CACHE", "DSVM_SOURCE_CACHE: %v", err)
		}
		c.SourceCache = size
	}
	if v := getenv("DSVM_LOG_BOUND"); v != "" {
		size, err := job.ParseLogBound(v)
		if err != nil {
			return c, fault.New(fault.Invalid, "DSVM_LOG_BOUND", "DSVM_LOG_BOUND: %v", err)
		}
		c.LogBound = size
	}
	guard, err := outbound.Parse(getenv(outbound.Setting))
	if err != nil {
		return c, err
	}
	c.AllowPrivate = guard
	if c.UIDs, err = readUIDs(getenv("DSVM_JOB_UIDS")); err != nil {
		return c, err
	}
	if c.GPUDevices == noGPUDevices {
		c.GPUDevices = ""
	}
	for _, name := range []string{"HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO"} {
		if v := getenv(name); v != "" {
			c.GitEnv = append(c.GitEnv, name+"="+v)
		}
	}
	if c.Metadata == "" {
		if err := c.checkIdentity(); err != nil {
			return c, err
		}
	}
	return c, c.check()
}

// credential is that of the node's identity; nil = it reaches everything by a connection
// string. On a VM, which has a metadata endpoint, it is the managed identity alone.
func (c *Config) credential() (azcore.TokenCredential, error) {
	if c.ServiceBus != "" {
		return nil, nil
	}
	getenv := c.getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	return identity.New(getenv, c.Metadata != "")
}

func requireSetting(name, value string) error {
	if value == "" {
		return fault.New(fault.Invalid, name, "the setting %s is missing; docs/settings.md says what it is", name)
	}
	return nil
}

// checkIdentity says what is wrong with who the node is.
func (c *Config) checkIdentity() error {
	if err := cmp.Or(requireSetting("DSVM_POOL", c.Pool), requireSetting("DSVM_VMID", c.VMID)); err != nil {
		return err
	}
	if err := job.CheckPool("DSVM_POOL", c.Pool); err != nil {
		return err
	}
	if !vmidPattern.MatchString(c.VMID) {
		return fault.New(fault.Invalid, "DSVM_VMID", "DSVM_VMID is %q; write the VM's id as Azure gives it", c.VMID)
	}
	if c.Node == "" {
		c.Node = c.VMID
	}
	return nil
}

// check says what else is missing or cannot be used, and makes paths absolute.
func (c *Config) check() error {
	err := cmp.Or(
		requireSetting("DSVM_INSTANCE_DIR", c.InstanceDir),
		requireSetting("SHARE_PATH", c.Share),
		requireSetting("ServiceBusConnection", c.ServiceBus+c.ServiceBusNamespace),
	)
	if err != nil {
		return err
	}
	if c.Metadata != "" {
		if err := checkMetadata(c.Metadata); err != nil {
			return err
		}
	}
	if err := checkDoorListen(cmp.Or(c.DoorListen, noDoorListen)); err != nil {
		return err
	}
	if c.ReportEvery <= 0 {
		return fault.New(fault.Invalid, "DSVM_REPORT_EVERY", "DSVM_REPORT_EVERY must be more than 0s")
	}
	if c.SourceTimeout <= 0 {
		return fault.New(fault.Invalid, "DSVM_SOURCE_TIMEOUT", "DSVM_SOURCE_TIMEOUT must be more than 0s")
	}
	if c.SetupTimeout <= 0 {
		return fault.New(fault.Invalid, "DSVM_SETUP_TIMEOUT", "DSVM_SETUP_TIMEOUT must be more than 0s")
	}
	if c.StartWithin <= 0 {
		return fault.New(fault.Invalid, "DSVM_START_WITHIN", "DSVM_START_WITHIN must be more than 0s")
	}
	if c.HandOverWithin <= 0 {
		return fault.New(fault.Invalid, "DSVM_HAND_OVER_WITHIN", "DSVM_HAND_OVER_WITHIN must be more than 0s")
	}
	if _, err := filepath.Match(c.GPUDevices, ""); err != nil {
		return fault.New(fault.Invalid, "DSVM_GPU_DEVICES",
			"DSVM_GPU_DEVICES is %q; write a pattern such as %s, or %s", c.GPUDevices, defaultGPUDevices, noGPUDevices)
	}
	if c.AloneAfter <= 0 && (len(c.PowerOff) > 0 || c.DeleteSelf) {
		return fault.New(fault.Invalid, "DSVM_ALONE_AFTER",
			"DSVM_ALONE_AFTER must be more than 0s; leave DSVM_POWER_OFF and DSVM_DELETE_SELF out to keep the machine")
	}
	if c.DeleteSelf && c.Metadata == "" {
		return fault.New(fault.Invalid, "DSVM_METADATA_ENDPOINT",
			"a node that deletes itself asks its metadata endpoint who it is; set DSVM_METADATA_ENDPOINT, or leave DSVM_DELETE_SELF out")
	}
	paths := []*string{&c.InstanceDir, &c.Share}
	for _, path := range []*string{&c.Credentials, &c.SecretsFile} {
		if *path != "" {
			paths = append(paths, path)
		}
	}
	for _, path := range paths {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// checkMetadata says what is wrong with an endpoint.
func checkMetadata(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return fault.New(fault.Invalid, "DSVM_METADATA_ENDPOINT", "DSVM_METADATA_ENDPOINT is no URL such as http://169.254.169.254")
	}
	return nil
}
