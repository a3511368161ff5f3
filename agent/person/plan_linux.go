package person

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// homesDir is where homes are, as the person sees it.
const homesDir = "/home"

// local is the person's folder on the node's own disk: the home, unless that is on the share.
func (p Plan) local() string { return filepath.Join(homesDir, p.User) }

// sharedHomes is the folder of the homes on the share.
const sharedHomes = "home"

func (p Plan) sharedHome() string { return filepath.Join(p.Share, sharedHomes, p.User) }

func (p Plan) home() string {
	if p.OnShare {
		return p.sharedHome()
	}
	return p.local()
}

// principal is what a certificate must name.
func (p Plan) principal() string { return "session:" + p.Session }

// write writes a plan where its keeper reads it.
func (p Plan) write() error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.State, 0o711); err != nil {
		return fmt.Errorf("the session's folder cannot be made: %w", err)
	}
	return replaceFile(filepath.Join(p.State, planFile), text, 0o600)
}

// replaceFile writes a file so that it is there whole, or not at all.
func replaceFile(path string, text []byte, mode os.FileMode) error {
	next := path + ".new"
	os.Remove(next)
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	return err
}
