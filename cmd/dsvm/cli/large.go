package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
)

// A script and a list of lines may be larger than a document. They travel as a folder then,
// in which the job starts, and the document names it.

const (
	// maxPart bounds a script, or a list of lines.
	maxPart = 64 << 20
	// spare is what the rest of a document may take beside its largest part: its id is added.
	spare = 512
	// linesFile has the lines of a sweep, one for each member.
	linesFile = ".dsvm-lines"
	// scriptFile is the name of a script whose file has none that suits every system.
	scriptFile = "script"
)

// plainName is a name of a file that no system and no shell reads in another way.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

// variableName is the name of a variable that a shell can set.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readPart reads a script or a list of lines.
func (p *Program) readPart(name string) ([]byte, error) {
	return p.readUpTo(name, maxPart, fmt.Sprintf("more than %d MiB; put it on the share and name its path", maxPart>>20))
}

// isLarge reports whether a document has more than may be sent.
func (d *document) isLarge() (bool, error) {
	body, err := d.encode()
	return len(body) > wire.MaxDocument-spare, err
}

// moveLargeParts moves the lines and the script of a document that is too large into a
// folder, and has the job start in it.
func (d *document) moveLargeParts() error {
	large, err := d.isLarge()
	if err != nil || !large || d.lines == nil && d.text("script") == "" {
		return err
	}
	if d.fields["source"] != nil {
		return WrongUse("%sthe job has more than %d KiB and a `source` as well; put its script and its lines into that",
			d.place(""), wire.MaxDocument>>10)
	}
	if at := d.text("workdir"); at != "" && !strings.HasPrefix(at, "/") {
		return WrongUse(
			"%sthe script or the lines have more than %d KiB, so that the job starts in a folder with them alone; leave `workdir` out",
			d.place("workdir"), wire.MaxDocument>>10)
	}
	d.files = map[string]string{}
	if err := d.moveLines(); err != nil {
		return err
	}
	if large, err = d.isLarge(); err != nil {
		return err
	}
	if large {
		if err := d.moveScript(""); err != nil {
			return err
		}
		if large, err = d.isLarge(); err != nil {
			return err
		}
	}
	if large {
		return WrongUse(
			"%sthe job has more than %d KiB beside its script and its lines; put what is long into a file of the script, or on the share",
			d.place(""), wire.MaxDocument>>10)
	}
	name, err := treeName(d.files)
	if err != nil {
		return err
	}
	d.set(name, "source", "tree")
	return nil
}

// moveLines has each member read its line from a file: the line whose number is its index.
func (d *document) moveLines() error {
	if d.lines == nil {
		return nil
	}
	if !variableName.MatchString(d.variable) || strings.HasPrefix(d.variable, "DSVM_") {
		return WrongUse("--each-line names the variable %q; a name has letters, digits and _, does not begin with a digit, nor with DSVM_",
			d.variable)
	}
	if env, _ := d.fields["env"].(map[string]any); env[d.variable] != nil {
		return WrongUse("--each-line and `env` both set %s; give one of them", d.variable)
	}
	sweep, _ := d.fields["sweep"].(map[string]any)
	delete(sweep, "list")
	d.set(len(d.lines), "sweep", "count")
	d.files[linesFile] = strings.Join(d.lines, "\n") + "\n"
	setLine := fmt.Sprintf(`%s=$(sed -n "$((DSVM_INDEX + 1))p" "$DSVM_SOURCE/%s") && export %[1]s && `, d.variable, linesFile)
	if d.text("script") != "" {
		return d.moveScript(setLine)
	}
	words, err := d.words("command")
	d.set(append([]string{"bash", "-c", setLine + `exec "$@"`, "bash"}, words...), "command")
	return err
}

// words are the words of a list, from flags or from a file.
func (d *document) words(field string) ([]string, error) {
	words, _ := d.fields[field].([]string)
	items, _ := d.fields[field].([]any)
	for _, item := range items {
		word, ok := item.(string)
		if !ok {
			return nil, WrongUse("%s`%s` has %v, which is no text; write it in quotes", d.place(field), field, item)
		}
		words = append(words, word)
	}
	return words, nil
}

// moveScript has the job run its script from a file, after what a shell does before.
func (d *document) moveScript(before string) error {
	text := d.text("script")
	if text == "" {
		return nil
	}
	name := d.script
	if !plainName.MatchString(name) {
		name = scriptFile
	}
	d.files[name] = text
	const file = "\x00"
	var run strings.Builder
	run.WriteString(before + "exec")
	for _, word := range job.ScriptCommand(text, file, nil) {
		if word == file {
			run.WriteString(` "$DSVM_SOURCE/` + name + `"`)
			continue
		}
		run.WriteString(" '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	args, err := d.words("args")
	if err != nil {
		return err
	}
	command := append([]string{"bash", "-c", run.String() + ` "$@"`, "bash"}, args...)
	delete(d.fields, "script")
	delete(d.fields, "args")
	d.set(command, "command")
	return nil
}

// treeName is the name of a folder with these files.
func treeName(files map[string]string) (string, error) {
	var list tree.Tree
	for _, path := range slices.Sorted(maps.Keys(files)) {
		e := tree.Entry{Path: path, Mode: tree.ModePlain, Size: int64(len(files[path]))}
		err := tree.Split(strings.NewReader(files[path]), func(part []byte) error {
			e.Blobs = append(e.Blobs, tree.HashOf(bytes.Clone(part)))
			return nil
		})
		if err != nil {
			return "", err
		}
		list = append(list, e)
	}
	return tree.HashOf(list.Encode()).Name(), nil
}

// sendFiles sends the folder of a document that has one.
func (d *document) sendFiles(ctx context.Context, s *session) error {
	if len(d.files) == 0 {
		return nil
	}
	var files []client.TreeFile
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		files = append(files, client.TreeText(path, []byte(d.files[path])))
	}
	sent, err := s.SendTree(ctx, files, nil)
	if err != nil {
		return err
	}
	d.set(sent.Name, "source", "tree")
	return nil
}
