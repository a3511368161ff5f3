package pack

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"dsvmpools/infra"
	"dsvmpools/local/functions"
)

// CheckApp refuses an app that the Functions host would hang on: the host says that it
// runs, lets every request wait for minutes, and takes messages meanwhile. root is what the
// host mounts: host.json, the functions' folders and the handler.
func CheckApp(root fs.FS) error {
	settings, err := templateSettings(infra.Template)
	if err != nil {
		return err
	}
	wrong := functions.CheckApp(root, settings)
	for i, err := range wrong {
		if name, ok := missingSetting(err); ok {
			wrong[i] = fmt.Errorf("%w; the template does not set %s: add it to the settings in infra/main.bicep", err, name)
		}
	}
	if err := checkHandler(root); err != nil {
		wrong = append(wrong, err)
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("the function app is not packed, since the host could not serve it: %w", errors.Join(wrong...))
}

var missing = regexp.MustCompile(`the setting (\w+) is missing`)

func missingSetting(err error) (string, bool) {
	m := missing.FindStringSubmatch(err.Error())
	if m == nil {
		return "", false
	}
	return m[1], true
}

// checkHandler looks at the executable as the host will find it, with its mode.
func checkHandler(root fs.FS) error {
	info, err := fs.Stat(root, handlerName)
	if err != nil || !info.Mode().IsRegular() {
		return errors.New("handler: it is missing; host.json names it as the program to start")
	}
	if info.Mode().Perm()&0o111 == 0 {
		return errors.New("handler: it has no x bit, and the host cannot set it on a mounted package; `dsvm package` writes it")
	}
	b, err := fs.ReadFile(root, handlerName)
	if err != nil {
		return err
	}
	if err := checkProgram(b, false); err != nil {
		return fmt.Errorf("handler: %w", err)
	}
	return nil
}

const howToBuild = "build it with GOOS=linux GOARCH=amd64 CGO_ENABLED=0"

// checkProgram refuses what is no program for Linux on x86-64; a static one needs no
// library of the machine that it runs on.
func checkProgram(b []byte, static bool) error {
	program, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return errors.New("it is not a program for Linux; " + howToBuild)
	}
	if program.Machine != elf.EM_X86_64 || program.Type != elf.ET_EXEC && program.Type != elf.ET_DYN {
		return fmt.Errorf("it is a program for %v, and function apps and nodes run on x86-64; %s", program.Machine, howToBuild)
	}
	for _, part := range program.Progs {
		if static && part.Type == elf.PT_INTERP {
			return errors.New("it needs libraries that not every image has; " + howToBuild)
		}
	}
	return nil
}

// A setting with its value, if that is a literal, in an expression of a template.
var literal = regexp.MustCompile(`'([A-Za-z_]\w*)', (?:'([^']*)'|)`)

// templateSettings are the settings that a compiled template gives the app, by name. A value
// that only the deployment knows is "set".
func templateSettings(template []byte) (map[string]string, error) {
	var tree any
	if err := json.Unmarshal(template, &tree); err != nil {
		return nil, fmt.Errorf("the template cannot be read: %w", err)
	}
	settings := map[string]string{}
	collectSettings(tree, settings)
	if len(settings) == 0 {
		return nil, errors.New("the template sets nothing for the function app")
	}
	return settings, nil
}

// collectSettings finds the parameter `settings` of the module of the app, and the settings
// that the module adds to it.
func collectSettings(tree any, settings map[string]string) {
	switch node := tree.(type) {
	case []any:
		for _, each := range node {
			collectSettings(each, settings)
		}
	case map[string]any:
		if parameter, ok := node["settings"].(map[string]any); ok {
			addLiterals(parameter["value"], settings)
		}
		if kind, _ := node["type"].(string); kind == "Microsoft.Web/sites/config" {
			addLiterals(node["properties"], settings)
		}
		for _, each := range node {
			collectSettings(each, settings)
		}
	}
}

func addLiterals(value any, settings map[string]string) {
	switch v := value.(type) {
	case string:
		for _, m := range literal.FindAllStringSubmatch(v, -1) {
			settings[m[1]] = m[2]
			if m[2] == "" {
				settings[m[1]] = "set"
			}
		}
	case map[string]any:
		for name, each := range v {
			if text, ok := each.(string); ok && !strings.HasPrefix(text, "[") {
				settings[name] = text
			} else {
				settings[name] = "set"
			}
		}
	}
}
