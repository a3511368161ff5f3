package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"

	written "dsvmpools/shared/document"
	"dsvmpools/shared/wholefile"
)

// Contexts: instances under names of the user's own, in a file of the user's settings. The
// file holds keys: nobody else may read it, and no command prints them.

// contextsFile is the name of the file in ConfigDir.
const contextsFile = "contexts.json"

// contexts is what the file holds.
type contexts struct {
	Current  string                `json:"current"` // "" = none
	Contexts map[string]contextRow `json:"contexts"`
}

// contextRow is how one instance is reached.
type contextRow struct {
	URL string `json:"url"`
	Key string `json:"key"`
}

// contextName is what a context may be called.
var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// contextsPath is where the file is; DSVM_CONFIG_DIR names another folder.
func (p *Program) contextsPath() (string, error) {
	if dir := p.Getenv("DSVM_CONFIG_DIR"); dir != "" {
		return filepath.Join(dir, contextsFile), nil
	}
	if p.ConfigDir == "" {
		return "", errors.New("the folder for your settings is not known; set DSVM_CONFIG_DIR to one of your own")
	}
	return filepath.Join(p.ConfigDir, contextsFile), nil
}

// readContexts reads the file. Without a file there are no contexts.
func (p *Program) readContexts() (contexts, error) {
	all := contexts{Contexts: map[string]contextRow{}}
	name, err := p.contextsPath()
	if err != nil {
		return all, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	defer f.Close()
	at, err := f.Stat()
	if err == nil && runtime.GOOS != "windows" && at.Mode().Perm()&0o077 != 0 {
		return all, fmt.Errorf("%s holds keys, and others may read it; `chmod 600 %s` makes it yours alone", name, name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxInstance))
	if err != nil {
		return all, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	if json.Unmarshal(text, &all) != nil || all.Contexts == nil {
		return all, fmt.Errorf("%s does not hold contexts; move it away, and `dsvm context add` makes another", name)
	}
	return all, nil
}

// writeContexts writes the file.
func (p *Program) writeContexts(all contexts) error {
	name, err := p.contextsPath()
	if err != nil {
		return err
	}
	return writePrivate(name, all)
}

// writePrivate writes a file of the user's settings so that there is always a whole one, which
// nobody else may read.
func writePrivate(name string, all any) (err error) {
	body, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("the folder for your settings cannot be made: %w", err)
	}
	if err := wholefile.Replace(name, append(body, '\n'), 0o600); err != nil {
		return fmt.Errorf("%s cannot be written: %w", name, err)
	}
	return nil
}

// find is the instance of a context.
func (all contexts) find(name string) (Instance, error) {
	row, ok := all.Contexts[name]
	if !ok {
		return Instance{}, noContext(name, slices.Sorted(maps.Keys(all.Contexts)))
	}
	return Instance{URL: row.URL, Key: row.Key, Source: contextSource(name), context: name}, nil
}

// contextSource names a context in a sentence.
func contextSource(name string) string { return fmt.Sprintf("context %q", name) }

// noContext is the error for a name that no context has.
func noContext(name string, known []string) error {
	hint := "`dsvm context list` shows the contexts"
	if near := written.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q? %s", near, hint)
	}
	return fmt.Errorf("there is no context %q; %s", written.Clip(name), hint)
}

// findInstance finds the instance to talk to: the one that ssh_config names, else that of --context, else of DSVM_URL, else of
// DSVM_CONTEXT, else the one that describes itself in this folder or above it, else that of
// the current context.
func (p *Program) findInstance() (Instance, error) {
	if p.instanceFile != "" {
		return readInstance(p.instanceFile)
	}
	named := p.context
	if named == "" && p.Getenv("DSVM_URL") == "" {
		named = p.Getenv("DSVM_CONTEXT")
	}
	if named != "" {
		all, err := p.readContexts()
		if err != nil {
			return Instance{}, err
		}
		return all.find(named)
	}
	found, err := FindInstance(p.Dir, p.Getenv)
	if !errors.Is(err, errNoInstance) {
		return found, err
	}
	all, failed := p.readContexts()
	switch {
	case failed != nil && (p.ConfigDir != "" || p.Getenv("DSVM_CONFIG_DIR") != ""):
		return Instance{}, failed
	case all.Current == "":
		return Instance{}, err
	}
	return all.find(all.Current)
}
