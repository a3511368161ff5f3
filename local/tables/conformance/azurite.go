package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	azuriteVersion = "3.35.0" // the last one for Node 20
	azuriteStart   = time.Minute
)

// installAzurite installs Azurite into the user's cache folder, unless it is
// there already.
func installAzurite(ctx context.Context) (program string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "dsvmpools", "azurite-"+azuriteVersion)
	done := filepath.Join(dir, "installed")
	program = filepath.Join(dir, "node_modules", ".bin", "azurite-table")
	if _, err := os.Stat(done); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"private":true}`), 0o644); err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stderr, "installing Azurite "+azuriteVersion+" with npm, once")
	npm := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "azurite@"+azuriteVersion)
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm cannot install Azurite; this needs Node and npm, and npm's registry: %w\n%s", err, out)
	}
	return program, os.WriteFile(done, nil, 0o644)
}

// startAzurite starts its table service in a folder that is removed
// afterwards. It returns the URL of the account.
func startAzurite(ctx context.Context) (string, func(), error) {
	program, err := installAzurite(ctx)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "azurite-")
	if err != nil {
		return "", nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr := free.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	free.Close()
	run := exec.CommandContext(ctx, program, "--tablePort", port, "--location", dir, "--silent", "--disableTelemetry")
	run.Dir = dir
	run.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+account+":"+key)
	run.Stderr = os.Stderr
	if err := run.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		run.Wait()
		close(ended)
	}()
	stop := func() {
		run.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			run.Process.Kill()
			<-ended
		}
		os.RemoveAll(dir)
	}
	ctx, cancel := context.WithTimeout(ctx, azuriteStart)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return "http://" + addr + "/" + account, stop, nil
		}
		select {
		case <-tick.C:
		case <-ended:
			stop()
			return "", nil, errors.New("Azurite ended at once")
		case <-ctx.Done():
			stop()
			return "", nil, errors.New("Azurite does not come up")
		}
	}
}
