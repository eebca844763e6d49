package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// markVar is an environment variable of all processes that the tests start. Their child
// processes inherit it.
const markVar = "TEST_MARK"

// tests are the tests of this package. Run gives them the same environment everywhere,
// and fails if they leave processes running.
type tests struct{ *testing.M }

func (m tests) Run() int {
	catchIgnoredSignals()
	mark := fmt.Sprintf("%s-%d-%d", program, os.Getpid(), time.Now().UnixNano())
	os.Setenv(markVar, mark)
	code := testenv.Main{M: m.M}.Run()
	if left := awaitProcesses(mark); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "the tests left processes running, which were killed: %q\n", left)
		return 1
	}
	return code
}

// catchIgnoredSignals catches the signals that this process ignores, for example because of nohup(1),
// so that the processes it starts do not ignore them.
func catchIgnoredSignals() {
	for s := syscall.Signal(1); s <= 64; s++ {
		if isIgnored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// awaitProcesses waits for the processes that have the mark to end. It kills those that
// still run after a while and returns their command lines.
func awaitProcesses(mark string) (left []string) {
	entry := []byte(markVar + "=" + mark + "\x00")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		running, late := false, time.Now().After(end)
		names, _ := filepath.Glob("/proc/[0-9]*")
		for _, name := range names {
			environ, _ := os.ReadFile(name + "/environ")
			pid, _ := strconv.Atoi(filepath.Base(name))
			if !bytes.Contains(environ, entry) || pid == os.Getpid() {
				continue
			}
			if running = true; late {
				line, _ := os.ReadFile(name + "/cmdline")
				left = append(left, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !running || late {
			return left
		}
	}
}
