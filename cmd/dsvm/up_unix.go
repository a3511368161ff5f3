//go:build unix

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/local"
	"dsvmpools/shared/collector"
	"dsvmpools/shared/outbound"
)

// program is how this program is started again, to play its other parts.
func program() ([]string, error) {
	self, err := os.Executable()
	return []string{self}, err
}

// agentSettings are the variables of dsvm up that its agents get too.
var agentSettings = []string{
	"DSVM_CREDENTIALS_DIR", "DSVM_SECRETS_FILE", "DSVM_SOURCE_CACHE", "DSVM_SOURCE_TIMEOUT", "DSVM_SOURCE_LOCAL",
	outbound.Setting, "DSVM_JOB_UIDS", "DSVM_LOG_BOUND", "DSVM_JUPYTER", "DSVM_SESSION_VOTES", "DSVM_SESSION_GRACE",
	"HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO",
}

// up runs an instance on this machine until Ctrl-C.
func up(p *cli.Program) *cobra.Command {
	var data, jobUser, users string
	var verbose, cloudRates, drained bool
	var quota map[string]int
	var seed uint64
	cmd := &cobra.Command{
		Use:   "up [--data DIR]",
		Short: "Run an instance on this machine",
		Long: `Run all of it here, in the foreground: Service Bus, Table Storage, the resource
manager and the Functions host. Everything is kept below DIR; started again on
the same DIR, it keeps its ports and goes on where it was. Ctrl-C stops it and
ends the jobs that run; with --drain it lets them end first, and starts no others
(the command line gets no answers meanwhile); a second Ctrl-C ends them.`,
		Example: "  dsvm up\n  dsvm up --drain\n  dsvm up --data /var/lib/dsvm\n  dsvm up --cloud-rates --quota total=64",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkJobUser(jobUser, os.Geteuid() == 0); err != nil {
				return err
			}
			if err := errors.Join(checkQuota(quota), checkUsersFile(users)); err != nil {
				return err
			}
			note, err := local.RaiseFiles()
			if err != nil {
				return err
			}
			self, err := program()
			if err != nil {
				return err
			}
			cfg := local.Config{Dir: data, Program: self, Log: slog.LevelInfo, CloudRates: cloudRates, Quota: quota, Seed: seed, Users: users}
			if verbose {
				cfg.Log = slog.LevelDebug
			}
			for _, name := range agentSettings {
				if v := os.Getenv(name); v != "" {
					cfg.AgentEnv = append(cfg.AgentEnv, name+"="+v)
				}
			}
			if jobUser != "" {
				cfg.AgentEnv = append(cfg.AgentEnv, "DSVM_JOB_USER="+jobUser)
			}
			collector.Tune(os.Getenv, local.MemoryGoal)
			in, err := local.Start(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			dir, _ := filepath.Abs(data)
			for _, note := range append(in.Notes, note) {
				if note != "" {
					fmt.Fprintln(p.Err, "dsvm: "+note)
				}
			}
			fmt.Fprintf(p.Out, "The instance is up at %s; it is described in %s.\n", in.URL, filepath.Join(dir, cli.InstanceFile))
			fmt.Fprintf(p.Err, "dsvm: the page is at %s; the address serves once, `dsvm page` prints another one\n", in.PageURL())
			if os.Geteuid() == 0 && jobUser == "" && (runtime.GOOS != "linux" || os.Getenv("DSVM_JOB_UIDS") == "off") {
				fmt.Fprintln(p.Err, "dsvm: jobs run as root, like this program; --job-user NAME runs them as somebody else")
			} else if os.Geteuid() == 0 && jobUser == "" {
				fmt.Fprintf(p.Err, "dsvm: each running job has a user of its own if such users can reach %s; if they cannot, jobs run as root. "+
					"DSVM_JOB_UIDS=off runs all of them as root\n", dir)
			} else if os.Geteuid() != 0 {
				fmt.Fprintln(p.Err, "dsvm: jobs run as you; only when run by root can they run as another user (--job-user)")
			}
			if os.Geteuid() != 0 && runtime.GOOS == "linux" {
				fmt.Fprintln(p.Err, "dsvm: a session in an interactive pool is for you alone and runs as you; "+
					"when root runs this, each person has an account")
			}
			fmt.Fprintln(p.Err,
				"dsvm: try `dsvm pool apply -f docs/examples/cpu.yaml` and `dsvm run --pool cpu -- echo hello` "+
					"in another terminal; Ctrl-C stops")
			err = untilStopped(cmd.Context(), in, dir, drained, p.Err)
			return errors.Join(err, in.Close())
		},
	}
	cmd.Flags().StringVar(&data, "data", cli.InstanceFolder, "folder that holds the instance")
	cmd.Flags().StringVar(&users, "users", "",
		"file with the people who may sign in, LOGIN:HASH:GROUP,GROUP a line, as htpasswd -B makes the hash")
	cmd.Flags().BoolVar(&drained, "drain", false, "at Ctrl-C, let the jobs that run end first")
	cmd.Flags().StringVar(&jobUser, "job-user", "",
		"user that gets the files of jobs, when run by root; with DSVM_JOB_UIDS=off jobs also run as this user")
	cmd.Flags().BoolVar(&cloudRates, "cloud-rates", false, "keep the rates of the cloud, and refuse what goes beyond them")
	cmd.Flags().StringToIntVar(&quota, "quota", nil, "cpus that may be had, by family, size, total or lowPriorityCores: total=64")
	cmd.Flags().Uint64Var(&seed, "fault-seed", 0, "seed of the faults that dsvm fault commands")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "write more into the logs")
	return cmd
}
