package person

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"dsvmpools/shared/wholefile"
)

// homesDir is where homes are, as the person sees it.
const homesDir = "/home"

// local is the person's folder on the node's own disk: the home, unless that is on the share.
func (p Plan) local() string {
	if p.Own {
		return p.Home
	}
	return filepath.Join(homesDir, p.User)
}

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
	return wholefile.Replace(filepath.Join(p.State, PlanFile), text, 0o600)
}
