// Package pack makes what a deployment uploads: the function app as a folder and a zip, the
// agent, and a note of their versions and checksums. It refuses an app that the Functions
// host could not serve. It works on every system, writes the modes of files itself, and
// never calls Azure.
package pack

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dsvmpools"
)

// Names of what is packed, in the folder that Build writes to.
const (
	AppFolder   = "app"          // the script root of the host
	AppZip      = "app.zip"      // the same, as it is uploaded
	AgentFile   = "agent"        // the program of a node
	VersionFile = "version.json" // a Package
	SumsFile    = "SHA256SUMS"   // of the three files, for sha256sum -c
	handlerName = "handler"
)

// Package says what was packed. It is the content of version.json.
type Package struct {
	Version string `json:"version"` // of the handler
	Commit  string `json:"commit"`  // "" if it was built outside a checkout
	App     Part   `json:"app"`
	Agent   Part   `json:"agent"`
}

// Part is one file of a package.
type Part struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // in lower-case hexadecimal
	Path    string `json:"-"`      // where it is on this machine
}

// Options say where the two programs come from. An empty path has the program built from
// the source in the folder Source, for Linux on x86-64.
type Options struct {
	Out            string // folder to write to
	Handler, Agent string
	Source         string       // folder of the module
	Note           func(string) // gets what goes on, in sentences
}

// Build makes the package in the folder Out.
func Build(ctx context.Context, o Options) (Package, error) {
	root := filepath.Join(o.Out, AppFolder)
	// What an earlier run has left, whose checksums are those of other files.
	for _, old := range []string{root, filepath.Join(o.Out, SumsFile), filepath.Join(o.Out, VersionFile)} {
		if err := os.RemoveAll(old); err != nil {
			return Package{}, err
		}
	}
	if err := dsvmpools.Layout(root); err != nil {
		return Package{}, err
	}
	handler, agent := filepath.Join(root, handlerName), filepath.Join(o.Out, AgentFile)
	if err := o.provide(ctx, "handler", o.Handler, handler); err != nil {
		return Package{}, err
	}
	if err := o.provide(ctx, "agent", o.Agent, agent); err != nil {
		return Package{}, err
	}
	zipped := filepath.Join(o.Out, AppZip)
	if err := zipFolder(root, zipped); err != nil {
		return Package{}, err
	}
	p, err := Open(zipped, agent)
	if err != nil {
		os.Remove(zipped)
		return Package{}, err
	}
	return p, p.note(o.Out)
}

// Open reads and checks an app and an agent that were packed before. It compares them with
// SHA256SUMS where such a file lies beside them.
func Open(app, agent string) (Package, error) {
	var p Package
	program, err := os.ReadFile(agent)
	if err != nil {
		return p, fmt.Errorf("the agent cannot be read: %w", err)
	}
	if err := checkProgram(program, true); err != nil {
		return p, fmt.Errorf("agent %s: %w", agent, err)
	}
	packed, err := os.ReadFile(app)
	if err != nil {
		return p, fmt.Errorf("the function app cannot be read: %w", err)
	}
	archive, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		return p, fmt.Errorf("%s is not a zip file: %w", app, err)
	}
	if err := CheckApp(archive); err != nil {
		return p, err
	}
	handler, err := fs.ReadFile(archive, handlerName)
	if err != nil {
		return p, err
	}
	p.App = Part{Version: versionOf(handler), SHA256: sum(packed), Path: app}
	p.Agent = Part{Version: versionOf(program), SHA256: sum(program), Path: agent}
	p.Version, p.Commit = p.App.Version, commitOf(handler)
	return p, cmp.Or(compareSums(p.App), compareSums(p.Agent))
}

// note writes version.json and SHA256SUMS.
func (p Package) note(folder string) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if err := os.WriteFile(filepath.Join(folder, VersionFile), text, 0o644); err != nil {
		return err
	}
	sums := fmt.Sprintf("%s  %s\n%s  %s\n%s  %s\n", p.Agent.SHA256, AgentFile, p.App.SHA256, AppZip, sum(text), VersionFile)
	return os.WriteFile(filepath.Join(folder, SumsFile), []byte(sums), 0o644)
}

// provide puts a program where it belongs: a copy of one that was built before, or a new
// build.
func (o Options) provide(ctx context.Context, name, from, to string) error {
	if from == "" {
		return o.build(ctx, name, to)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("the %s cannot be read: %w", name, err)
	}
	if err := checkProgram(b, name == AgentFile); err != nil {
		return fmt.Errorf("--%s %s: %w", name, from, err)
	}
	return os.WriteFile(to, b, 0o755)
}

func (o Options) build(ctx context.Context, name, to string) error {
	o.Note("building the " + name + " for linux/amd64")
	abs, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", abs, "./cmd/"+name)
	cmd.Dir = o.Source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the %s could not be built (%w): run this in the project's folder with Go installed, or name "+
			"a built one with --%s\n%s", name, err, name, strings.TrimSpace(string(text)))
	}
	return nil
}

// zipFolder zips a folder. It gives the handler the x bit, whatever the system of this
// machine knows of modes, since the host mounts the archive read-only and runs the handler
// with the mode that it finds. Times are fixed, so that the same content is the same archive.
func zipFolder(root, to string) error {
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		names = append(names, rel)
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for _, name := range names {
		h := &zip.FileHeader{Name: filepath.ToSlash(name), Method: zip.Deflate, Modified: time.Unix(0, 0).UTC().AddDate(10, 0, 0)}
		h.SetMode(0o644)
		if h.Name == handlerName {
			h.SetMode(0o755)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		in, err := os.Open(filepath.Join(root, name))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		in.Close()
		if err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

// compareSums refuses a file that is not the one in the checksums beside it: those of Build,
// or those of a release.
func compareSums(part Part) error {
	for _, name := range []string{SumsFile, "checksums.txt"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(part.Path), name))
		if err != nil {
			continue // none is there
		}
		if err := compareWith(part, name, text); err != nil {
			return err
		}
	}
	return nil
}

func compareWith(part Part, name string, text []byte) error {
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == filepath.Base(part.Path) && fields[0] != part.SHA256 {
			return fmt.Errorf("%s is not the file that %s describes: its SHA-256 is %s; get both again", part.Path, name, part.SHA256)
		}
	}
	return nil
}

func sum(b []byte) string {
	hash := sha256.Sum256(b)
	return hex.EncodeToString(hash[:])
}

// versionOf reads what the Go command wrote into a program. One that was built outside a
// checkout is known by its checksum.
func versionOf(program []byte) string {
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel-" + sum(program)[:8]
	}
	return info.Main.Version
}

func commitOf(program []byte) string {
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
