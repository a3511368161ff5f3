package disk

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// bbolt makes a new store of an empty file, reads past the end of one that is cut
// off, and on a damaged page it may panic in a goroutine of its own, or follow
// pages without end. Nothing can stop that inside a process. So a file is checked
// before it is opened for writing: its size here, and its pages by bbolt's own
// check in a process of its own, see init. Nothing here knows bbolt's format.

// maxChecked bounds the files of which every page is checked: that takes about a
// second at this size. A damaged page of a larger one is met when it is read.
const maxChecked = 256 << 20

// Bounds of a check. What exceeds one of them follows damaged pages in a circle.
const (
	checkTime   = time.Minute
	checkStack  = 64 << 20
	checkMemory = 256 << 20 // the check of a file of maxChecked needs a tenth of it
	watchPause  = 20 * time.Millisecond
)

// checkVariable names the file to check, in the environment of the process that
// checks it.
const checkVariable = "DSVM_CHECK_STORE"

// checkArgument is the only argument of that process. A program that is started in
// another way does its own work, even with the variable set.
const checkArgument = "check-pages-of-a-store"

// checkWhole is the last that it says of a file that is whole.
const checkWhole = "the file is whole\n"

// checkPrefix begins the line in which that process says what is wrong.
const checkPrefix = "damaged: "

// maxReason bounds what is said of a damaged page, in bytes: it may have a key in it.
const maxReason = 200

// errUnchecked is wrapped by the error of a file whose check could not be made.
var errUnchecked = errors.New("the check of its pages could not be made")

// create makes a store file in one move, so that an empty file is never what is
// left of a start that was cut off. It reports whether there was none before.
func create(path string) (isNew bool, err error) {
	if _, err = os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	b, err := bbolt.Open(fresh, 0o600, nil)
	if err != nil {
		return false, err
	}
	if err := b.Close(); err != nil {
		return false, err
	}
	// A link fails where a rename would replace what another process has made.
	err = os.Link(fresh, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return err == nil, os.Remove(fresh)
}

// check says what is wrong with a store's file. It changes nothing. The error is
// bbolt's ErrTimeout when another process has the file open.
func check(path string) (err error) {
	defer recoverDamage(&err)
	if info, err := os.Stat(path); err != nil {
		return err
	} else if info.Size() == 0 {
		return errors.New("it is empty")
	}
	var file *os.File
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:  lockTimeout,
		ReadOnly: true, // reads nothing but the two pages that say where the others are
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	if err != nil {
		return err
	}
	defer b.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	var want int64
	if err := b.View(func(tx *bbolt.Tx) error { want = tx.Size(); return nil }); err != nil {
		return err
	}
	if info.Size() < want {
		return fmt.Errorf("it is cut off: it has %d bytes of %d", info.Size(), want)
	}
	if info.Size() > maxChecked {
		return nil
	}
	return checkApart(path) // while b holds its lock: nobody writes meanwhile
}

// checkApart has every page checked in a process of its own, which may crash.
func checkApart(path string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("%w: %w", errUnchecked, err)
	}
	if runtime.GOOS == "linux" {
		program = "/proc/self/exe" // is there also after the program's file was replaced
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, checkArgument)
	cmd.Env = append(os.Environ(), checkVariable+"="+path)
	separate(cmd)
	output, err := cmd.CombinedOutput()
	if err == nil && strings.HasSuffix(string(output), checkWhole) {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not end in %s", checkTime)
	}
	return judgeCheck(string(output), err)
}

// judgeCheck is the error of a check that did not say that the file is whole. Only a
// reason is a verdict about the file; a check that was killed, or whose program does
// something else, says nothing about it.
func judgeCheck(output string, err error) error {
	if reason := checkReason(output); reason != "" {
		return fmt.Errorf("its pages are damaged: %s", reason)
	}
	if err == nil {
		err = errors.New("it ended without a result")
	}
	return fmt.Errorf("%w: %w", errUnchecked, err)
}

// checkReason finds in the output of a check why the file is damaged: the words of the
// check, or those of Go's runtime when it crashed. It is empty if there is no reason.
func checkReason(output string) string {
	for line := range strings.Lines(output) {
		for _, prefix := range []string{checkPrefix, "panic: ", "fatal error: "} {
			if reason, ok := strings.CutPrefix(line, prefix); ok {
				reason = strings.TrimSpace(reason)
				return reason[:min(len(reason), maxReason)]
			}
		}
	}
	return ""
}

// init makes a process that is started to check a store do that, and nothing
// else, whichever program it is.
func init() {
	path := os.Getenv(checkVariable)
	if path == "" || len(os.Args) != 2 || os.Args[1] != checkArgument {
		return
	}
	debug.SetMaxStack(checkStack)
	debug.SetTraceback("none")
	go watchMemory()
	if err := checkPages(path); err != nil {
		failCheck(err.Error())
	}
	os.Stdout.WriteString(checkWhole)
	os.Exit(0)
}

func failCheck(reason string) {
	os.Stderr.WriteString(checkPrefix + reason + "\n")
	os.Exit(1)
}

// watchMemory ends a check that takes more memory than any whole file needs.
func watchMemory() {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for range time.Tick(watchPause) {
		if metrics.Read(heap); heap[0].Value.Uint64() > checkMemory {
			failCheck("its pages lead to each other in a circle")
		}
	}
}

// checkPages runs bbolt's own check over a file, and then reads all that is in it,
// which the check does not.
func checkPages(path string) (err error) {
	defer recoverDamage(&err)
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return err
	}
	return b.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error { return readBucket(bucket) })
	})
}

// readBucket reads a bucket and those in it to the end.
func readBucket(b *bbolt.Bucket) error {
	sum := crc32.NewIEEE()
	return b.ForEach(func(k, v []byte) error {
		sum.Write(k)
		sum.Write(v)
		if inside := b.Bucket(k); v == nil && inside != nil {
			return readBucket(inside)
		}
		return nil
	})
}

// recoverDamage turns a panic of bbolt over a damaged page into an error.
func recoverDamage(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%v", p)
	}
}
