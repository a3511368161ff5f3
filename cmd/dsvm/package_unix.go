//go:build unix

package main

import (
	"archive/zip"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/local"
)

// pack lays out what is deployed as the function app.
func pack(p *cli.Program) *cobra.Command {
	var out, handler string
	cmd := &cobra.Command{
		Use:   "package",
		Short: "Lay out the function app and zip it",
		Long: `Write DIR/app with host.json, one folder for each function and the executable
` + "`handler`" + `, and DIR/app.zip of the same. The handler is built for linux/amd64 from
the source in this folder; without Go or the source, name one with --handler.`,
		Example: "  dsvm package\n  func start --script-root dist/app",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root := filepath.Join(out, "app")
			if err := os.RemoveAll(root); err != nil {
				return err
			}
			if err := local.Layout(root); err != nil {
				return err
			}
			to := filepath.Join(root, "handler")
			if handler != "" {
				if err := startable(handler); err != nil {
					return err
				}
				if err := copyFile(handler, to); err != nil {
					return err
				}
			} else if err := buildHandler(cmd, p, to); err != nil {
				return err
			}
			if err := zipFolder(root, root+".zip"); err != nil {
				return err
			}
			fmt.Fprintln(p.Out, root+".zip")
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "dist", "folder to write to")
	cmd.Flags().StringVar(&handler, "handler", "", "a handler that was built before, for the platform of the function app")
	return cmd
}

func buildHandler(cmd *cobra.Command, p *cli.Program, to string) error {
	fmt.Fprintln(p.Err, "dsvm: building the handler for linux/amd64")
	abs, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	build := exec.CommandContext(cmd.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", abs, "./cmd/handler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf(
			"the handler could not be built (%w): run this in the project's folder with Go installed, or name "+
				"a built one with --handler\n%s",
			err, strings.TrimSpace(string(text)))
	}
	return nil
}

// startable refuses a handler that the Functions host could not start: it would say
// that it runs, let every request hang for minutes, and take messages meanwhile.
func startable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return cli.WrongUse("--handler %s: the file cannot be read: %v", path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return cli.WrongUse("--handler %s: it is not a file; name the built handler", path)
	}
	first := make([]byte, 2)
	if _, err := io.ReadFull(f, first); err == nil && string(first) == "#!" {
		return nil // a script, which finds its interpreter there or not
	}
	program, err := elf.NewFile(f)
	if err != nil {
		return cli.WrongUse("--handler %s: it is not a program for Linux; build it with GOOS=linux GOARCH=amd64 CGO_ENABLED=0", path)
	}
	if program.Machine != elf.EM_X86_64 || program.Type != elf.ET_EXEC && program.Type != elf.ET_DYN {
		return cli.WrongUse(
			"--handler %s: it is a program for %v, and function apps run on x86-64; build it with GOOS=linux GOARCH=amd64 CGO_ENABLED=0",
			path, program.Machine)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// zipFolder zips a folder's contents, keeping the executable bit: some plans
// run the handler with the mode that the archive gives it.
func zipFolder(root, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h, err := zip.FileInfoHeader(info)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		h.Name, h.Method = filepath.ToSlash(rel), zip.Deflate
		w, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(w, in)
		return err
	})
	if err != nil {
		return err
	}
	return z.Close()
}
