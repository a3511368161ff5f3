package agent

import (
	"context"
	"log/slog"
	"os"

	"dsvmpools/shared/version"
)

// Main is the program: it runs an agent with the settings of the environment
// until the context ends, and returns the process's exit code. Lines of the log
// go to standard output.
func Main(ctx context.Context, getenv func(string) string) int {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	log.Info("starting agent", version.Read().LogAttributes()...)
	cfg, err := ReadConfig(getenv)
	if err == nil {
		seclude()
		cfg.Log = log
		if os.Geteuid() == 0 && cfg.JobUser == "" && cfg.UIDs.count == 0 {
			log.Warn("jobs run as root; set DSVM_JOB_USER to an unprivileged user")
		}
		if cfg.SyncCount != "" {
			err = shareSyncCount(cfg.SyncCount)
		}
		if err == nil {
			err = Run(ctx, cfg)
		}
	}
	if err != nil {
		log.Error("running the agent has failed", "error", err.Error())
		return 1
	}
	return 0
}
