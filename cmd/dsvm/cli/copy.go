package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/client"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
)

const (
	// copiesAtOnce are the files that are read side by side.
	copiesAtOnce = 4
	// readTimeout bounds one answer: the platform cuts it after 230 s, and the next one goes
	// on where it was.
	readTimeout = 240 * time.Second
	// sameTime is how far two times of one file may be apart: HTTP has whole seconds.
	sameTime = 2 * time.Second
)

// placePattern is a place in the output of a job: job:ID, an attempt, a path.
var placePattern = regexp.MustCompile(`^job:([A-Za-z0-9._-]+)(?::([1-9][0-9]{0,8}))?(?:/(.*))?$`)

// jobPlace is a place in the output of a job.
type jobPlace struct {
	client.Output
	path string // "" = the output itself
}

func parsePlace(text string) (jobPlace, error) {
	parts := placePattern.FindStringSubmatch(text)
	if parts == nil {
		return jobPlace{}, WrongUse("%q is no place in the output of a job; write job:ID, job:ID/PATH or job:ID:ATTEMPT/PATH", text)
	}
	at := jobPlace{Output: client.Output{Job: parts[1]}, path: strings.Trim(parts[3], "/")}
	at.Attempt, _ = strconv.Atoi(parts[2]) // digits, or nothing for the last attempt
	if at.path != "" {
		if err := tree.CheckPath(at.path); err != nil {
			return jobPlace{}, WrongUse("%s", message(err))
		}
	}
	return at, nil
}

const placesHelp = `A place is job:ID for the output of a job's last attempt, job:ID:2 for that of its
second, and job:ID/PATH for something in it: what the job has written below
$DSVM_OUTPUT.`

func listCommand(p *Program) *cobra.Command {
	c := &cobra.Command{
		Use:   "ls PLACE",
		Short: "List what a job has written",
		Long:  "List a folder in the output of a job.\n\n" + placesHelp,
		Example: `  dsvm ls job:train-7
  dsvm ls job:train-7:2/checkpoints -o json`,
		Args:              exactly("a PLACE such as job:ID"),
		ValidArgsFunction: p.completePlaces,
		RunE: func(c *cobra.Command, args []string) error {
			at, err := parsePlace(args[0])
			if err != nil {
				return err
			}
			files, err := ask(c.Context(), p, "listing "+args[0], func(ctx context.Context, s *session) ([]wire.File, error) {
				return s.Files(ctx, at.Output, at.path)
			})
			if err != nil {
				return err
			}
			t := newTable("<SIZE ?1MODIFIED NAME")
			for _, f := range files {
				name, size := f.Name, sizeText(f.Size)
				switch f.Kind {
				case wire.FolderFile:
					name, size = name+"/", ""
				case wire.LinkFile:
					name, size = name+" -> "+f.Target, ""
				case wire.PlainFile, wire.OtherFile:
				}
				t.add(size, p.age(&f.ModifiedAt), name)
			}
			return p.list(files, t, args[0]+" is empty")
		},
	}
	return c
}

func copyCommand(p *Program) *cobra.Command {
	var recursive, force bool
	c := &cobra.Command{
		Use:   "cp [-r] [--force] PLACE... FOLDER",
		Short: "Copy what a job has written to this machine",
		Long: `Copy files from the output of a job to a folder of this machine. A folder is copied
with -r; job:ID/ copies what is in the output. One file may also get another name.

What is there already and is the same is left alone; what is another file is not
replaced unless --force says so. A copy that was broken off goes on where it was when
the command runs again. Links are not copied.

` + placesHelp,
		Example: `  dsvm cp job:train-7/model.pt .
  dsvm cp job:train-7/model.pt best.pt
  dsvm cp -r job:train-7:2/ results`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return WrongUse("say what to copy and where to: `dsvm cp job:ID/PATH FOLDER`")
			}
			return nil
		},
		ValidArgsFunction: p.completePlaces,
		RunE: func(c *cobra.Command, args []string) error {
			var places []jobPlace
			for _, text := range args[:len(args)-1] {
				at, err := parsePlace(text)
				if err != nil {
					return err
				}
				if at.path == "" && !recursive {
					return WrongUse("%s is a folder; add -r to copy all of it", text)
				}
				places = append(places, at)
			}
			to := args[len(args)-1]
			if strings.HasPrefix(to, "job:") {
				return WrongUse("%s is the output of a job, which only the job writes; the last argument is a folder of this machine", to)
			}
			s, err := p.connect()
			if err != nil {
				return err
			}
			return s.explain(p.copyAll(c.Context(), s, places, to, recursive, force))
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "copy folders, with everything in them")
	c.Flags().BoolVar(&force, "force", false, "replace files that are there and are others")
	return c
}

// completePlaces completes the places of jobs.
func (p *Program) completePlaces(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	ids, _ := p.completeJobs(c, nil, strings.TrimPrefix(part, "job:"))
	places := make([]string, len(ids))
	for i, id := range ids {
		places[i] = "job:" + id
	}
	if len(args) > 0 {
		return places, cobra.ShellCompDirectiveDefault // or a folder
	}
	return places, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// copier copies files of outputs below a folder.
type copier struct {
	p      *Program
	s      *session
	root   *os.Root
	folder string // as the person has written it
	force  bool

	files, same, links atomic.Int64
	bytes              atomic.Int64
}

// copyAll copies places to a folder or, one file, to a name.
func (p *Program) copyAll(ctx context.Context, s *session, places []jobPlace, to string, recursive, force bool) error {
	folder, name := to, ""
	path := p.fromHere(to)
	at, err := os.Stat(path)
	isFolder := err == nil && at.IsDir() || strings.HasSuffix(to, "/") || strings.HasSuffix(to, string(filepath.Separator))
	if !isFolder && len(places) == 1 && !recursive {
		folder, name = filepath.Dir(to), filepath.Base(to)
		path = filepath.Dir(path)
	}
	return p.copyInto(ctx, s, path, folder, force, func(ctx context.Context, c *copier) error {
		for _, place := range places {
			if err := c.copyPlace(ctx, place, name, recursive); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyInto makes a folder, and runs copies into it.
func (p *Program) copyInto(
	ctx context.Context,
	s *session,
	path, shown string,
	force bool,
	run func(context.Context, *copier) error,
) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	c := &copier{p: p, s: s, root: root, folder: shown, force: force}
	stop := p.progress("copying to " + shown)
	err = run(ctx, c)
	stop()
	if n := c.links.Load(); n > 0 {
		p.Say("links, and what is no plain file, are not copied: %s left out", count(int(n), "thing"))
	}
	if err != nil {
		return err
	}
	if p.ErrWidth > 0 || c.same.Load() > 0 {
		p.Say("%s copied to %s, %s; %d were there",
			count(int(c.files.Load()), "file"), shown, sizeText(c.bytes.Load()), c.same.Load())
	}
	return nil
}

// copyPlace copies one place. name: of a file, if it gets another one.
func (c *copier) copyPlace(ctx context.Context, at jobPlace, name string, recursive bool) error {
	if at.path == "" {
		return c.copyFolder(ctx, at, "")
	}
	files, err := c.s.Files(ctx, at.Output, strings.TrimPrefix(path.Dir(at.path), "."))
	if err != nil {
		return err
	}
	base := path.Base(at.path)
	for _, f := range files {
		if f.Name != base {
			continue
		}
		switch {
		case f.Kind == wire.PlainFile && name != "":
			return c.copyFile(ctx, at, f, name)
		case f.Kind == wire.PlainFile:
			return c.copyFile(ctx, at, f, base)
		case f.Kind == wire.FolderFile && recursive:
			return c.copyFolder(ctx, at, base)
		case f.Kind == wire.FolderFile:
			return WrongUse("%s of job %s is a folder; add -r to copy all of it", plain(at.path), at.Job)
		}
		return fmt.Errorf("%s of job %s is a link, or no plain file, and not copied", plain(at.path), at.Job)
	}
	return fault.New(fault.NotFound, "", "the output of job %q has no %q; `dsvm ls job:%s` lists it", at.Job, at.path, at.Job)
}

// copyFolder copies what is in a folder to a folder below the copier's; "" = to that itself.
func (c *copier) copyFolder(ctx context.Context, at jobPlace, to string) error {
	files, err := c.s.Files(ctx, at.Output, at.path)
	if err != nil {
		return err
	}
	if to != "" {
		if err := c.root.MkdirAll(filepath.FromSlash(to), 0o755); err != nil {
			return err
		}
	}
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(copiesAtOnce)
	var folders []wire.File
	for _, f := range files {
		if strings.ContainsAny(f.Name, `/`) || tree.CheckPath(f.Name) != nil { // no server of ours says that
			return fmt.Errorf("the output has an entry %q, which is no name; it is not copied", plain(f.Name))
		}
		switch f.Kind {
		case wire.PlainFile:
			below := jobPlace{at.Output, path.Join(at.path, f.Name)}
			g.Go(func() error { return c.copyFile(each, below, f, path.Join(to, f.Name)) })
		case wire.FolderFile:
			folders = append(folders, f)
		case wire.LinkFile, wire.OtherFile:
			c.links.Add(1)
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, f := range folders {
		if err := c.copyFolder(ctx, jobPlace{at.Output, path.Join(at.path, f.Name)}, path.Join(to, f.Name)); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies one file to a name below the copier's folder.
func (c *copier) copyFile(ctx context.Context, at jobPlace, f wire.File, to string) error {
	name := filepath.FromSlash(to)
	there, err := c.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case there.Mode().IsRegular() && there.Size() == f.Size && there.ModTime().Sub(f.ModifiedAt).Abs() < sameTime:
		c.same.Add(1)
		return nil
	case there.IsDir():
		return fmt.Errorf("%s is a folder, and a file of the job has the same name", plain(filepath.Join(c.folder, name)))
	case !c.force:
		return fmt.Errorf("%s is there already and is another file; --force replaces it", plain(filepath.Join(c.folder, name)))
	}
	part, err := c.readFile(ctx, at, f, name)
	if err != nil {
		return err
	}
	if err := c.root.Chtimes(part, f.ModifiedAt, f.ModifiedAt); err != nil {
		return err
	}
	c.files.Add(1)
	c.bytes.Add(f.Size)
	return c.root.Rename(part, name)
}

// partPattern is the name of a part of a file: whose it is, and the tag of what was read.
var partPattern = regexp.MustCompile(`^\.dsvm-[0-9a-f]{12}-([0-9a-f]+-[0-9a-f]+)\.part$`)

// partName names the part of a file.
func partName(name, tag string) string {
	sum := sha256.Sum256([]byte(filepath.Base(name)))
	return filepath.Join(filepath.Dir(name), fmt.Sprintf(".dsvm-%x-%s.part", sum[:6], tag))
}

// findPart looks for what an earlier copy has left of a file, and returns its tag.
func (c *copier) findPart(name string) (part, tag string) {
	dir, err := c.root.Open(filepath.Dir(name))
	if err != nil {
		return "", ""
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what cannot be read is read again from the job
	for _, n := range names {
		m := partPattern.FindStringSubmatch(n)
		if m != nil && filepath.Base(partName(name, m[1])) == n {
			return filepath.Join(filepath.Dir(name), n), m[1]
		}
	}
	return "", ""
}

// readFile reads a file into a part beside its place, and goes on where an earlier copy, or
// an answer that was cut, has ended.
func (c *copier) readFile(ctx context.Context, at jobPlace, f wire.File, name string) (string, error) {
	part, tag := c.findPart(name)
	lastGood := time.Now()
	for {
		n, size, now, err := c.readOnce(ctx, at, f, name, part, tag)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case tag != "" && now == "" && !client.MayPass(err): // it has changed, or the part is of no use
			if err := c.root.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			part, tag = "", ""
			continue
		case now == "" && !client.MayPass(err):
			return "", err
		}
		if now != "" {
			tag, part = now, partName(name, now)
		}
		if err == nil && now != "" {
			if got, err := c.root.Stat(part); err == nil && got.Size() == size {
				return part, nil
			}
		}
		if n > 0 {
			lastGood = time.Now()
		}
		if time.Since(lastGood) > lookPatience {
			if err == nil {
				err = fmt.Errorf("%s of job %s breaks off again and again", at.path, at.Job)
			}
			return "", err
		}
		if err := pause(ctx, lookEvery); err != nil {
			return "", err
		}
	}
}

// readOnce reads one answer. It returns the bytes that came, the size of the file and its
// tag; "" = there was no answer.
func (c *copier) readOnce(ctx context.Context, at jobPlace, f wire.File, name, part, tag string) (n, size int64, now string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var offset int64
	quoted := ""
	if tag != "" {
		quoted = `"` + tag + `"`
		if there, err := c.root.Stat(part); err == nil {
			offset = there.Size()
		}
		if whole, err := strconv.ParseInt(strings.Split(tag, "-")[0], 16, 64); err == nil && whole == offset {
			return 0, whole, tag, nil
		}
	}
	got, err := c.s.ReadFile(ctx, at.Output, at.path, offset, quoted)
	if err != nil {
		return 0, 0, "", err
	}
	defer got.Body.Close()
	now = strings.Trim(got.Tag, `"`)
	part = partName(name, now)
	if !partPattern.MatchString(filepath.Base(part)) {
		return 0, 0, "", errors.New("the instance answers with an ETag of another form")
	}
	mode := fs.FileMode(0o644)
	if f.Executable {
		mode = 0o755
	}
	out, err := c.root.OpenFile(part, os.O_WRONLY|os.O_CREATE, mode)
	if err != nil {
		return 0, 0, "", err
	}
	if _, err = out.Seek(offset, io.SeekStart); err == nil {
		err = out.Truncate(offset)
	}
	if err == nil {
		n, err = io.Copy(out, got.Body)
	}
	return n, got.Size, now, errors.Join(err, out.Close())
}
