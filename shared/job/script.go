package job

import (
	"slices"
	"strings"
)

// A script runs in the environment of a login shell: what the profiles of a node set, such
// as the PATH of its Python, is there. bash reads it itself where its first line names bash
// or sh or no interpreter, as agents of the first release do with every script.

// ScriptCommand is the command that runs a script, which lies in a file, with arguments.
func ScriptCommand(script, file string, args []string) []string {
	with, options := interpreter(script)
	command := []string{"bash", "-l"}
	if len(with) > 0 {
		// The login shell gives its place to the interpreter. What follows -c is $0.
		command = append(append(command, "-c", `exec "$@"`, "bash"), with...)
	}
	return slices.Concat(command, options, []string{file}, args)
}

// ScriptInterpreter is the path of the program that the first line of a script names where
// that is another one than a shell; "" = bash reads it.
func ScriptInterpreter(script string) string {
	if with, _ := interpreter(script); len(with) > 0 {
		return with[0]
	}
	return ""
}

// IsPlainScript reports whether `bash -l FILE` runs a script as it is meant, which is how
// agents of the first release run every script.
func IsPlainScript(script string, args []string) bool {
	with, options := interpreter(script)
	return len(with)+len(options)+len(args) == 0
}

// interpreter reads the #! line of a script. with is the interpreter with its one argument,
// as a kernel takes the line; nil: bash reads the script, with the options of the line.
func interpreter(script string) (with, options []string) {
	line, ok := strings.CutPrefix(script, "#!")
	if !ok {
		return nil, nil
	}
	line, _, _ = strings.Cut(line, "\n")
	line = strings.Trim(line, " \t\r")
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, nil
	}
	shell := words
	if baseName(words[0]) == "env" {
		if shell = words[1:]; len(shell) > 0 && (shell[0] == "-S" || shell[0] == "--split-string") {
			shell = shell[1:]
		}
	}
	if len(shell) > 0 && (baseName(shell[0]) == "bash" || baseName(shell[0]) == "sh") {
		return nil, shell[1:]
	}
	program, argument := words[0], strings.TrimLeft(line[len(words[0]):], " \t")
	if argument == "" {
		return []string{program}, nil
	}
	return []string{program, argument}, nil
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// validateScript checks the script and its arguments.
func (s Spec) validateScript() error {
	if len(s.Args) > 0 && s.Script == "" {
		return invalid("args", "`args` are those of a `script`, and there is none; write them into `command`")
	}
	if first, _, _ := strings.Cut(s.Script, "\n"); strings.HasPrefix(first, "#!") && strings.HasSuffix(first, "\r") {
		return invalid("script",
			"the first line of `script` ends with a carriage return (CR LF, as Windows writes it), so that no node finds its interpreter; "+
				"write its lines with LF")
	}
	return nil
}
