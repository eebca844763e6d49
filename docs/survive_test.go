package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A starter is a way to start a program from the command of run.
type starter struct {
	name   string // in the table of run.md
	script string // of sh; the path of the program replaces PROBE
	tools  []string
	asRoot bool // the program has another user
}

// starters are the rows of the table in run.md, in its order. nobody is the other user.
var starters = []starter{
	{"a shell, also with `&`, `exec` or `xargs`", `PROBE`, nil, false},
	{"`setsid`, `nohup`, `env`, `nice`, `timeout`", `setsid nohup env nice timeout 1m PROBE`, []string{"setsid", "nohup", "nice", "timeout"}, false},
	{"`env -i`", `env -i PROBE`, nil, false},
	{"Python: `subprocess.run(argv)`", `python3 -c 'import subprocess; subprocess.run(["PROBE"])'`, []string{"python3"}, false},
	{"Python: `subprocess.run(argv, pass_fds=[fd])`", `python3 -c 'import os, subprocess
fd = int(os.environ["PIKA_LIFECYCLE_FD"])
subprocess.run(["PROBE"], pass_fds=[fd])'`, []string{"python3"}, false},
	{"Node: `child_process.spawn(file)`", `node -e 'require("child_process").spawn("PROBE")'`, []string{"node"}, false},
	{"Node: `spawn(file, {stdio})`, where `stdio[fd] = fd`", `node -e '
const stdio = ["inherit", "inherit", "inherit"], fd = +process.env.PIKA_LIFECYCLE_FD
while (stdio.length < fd) stdio.push("ignore")
stdio[fd] = fd
require("child_process").spawn("PROBE", {stdio})'`, []string{"node"}, false},
	{"`sudo`", `sudo -n -u nobody PROBE`, []string{"sudo"}, true},
	{"`sudo -E`", `sudo -n -E -u nobody PROBE`, []string{"sudo"}, true},
	{"`sudo --preserve-env=PIKA_LIFECYCLE_FD,…`", `sudo -n --preserve-env=PIKA_LIFECYCLE_FD,PIKA_LIFECYCLE_STREAM,PIKA_LIFECYCLE_FIFO -u nobody PROBE`, []string{"sudo"}, true},
	{"`sudo -E -C 10`, if sudoers has `Defaults closefrom_override`", `echo 'Defaults closefrom_override
root ALL=(ALL:ALL) ALL' >sudoers
chmod 440 sudoers
unshare --mount sh -c 'mount --bind sudoers /etc/sudoers && exec sudo -n -E -C 10 -u nobody PROBE'`, []string{"sudo", "unshare", "mount"}, true},
	{"`su USER -c`, `runuser -u USER --`", `su nobody -s /bin/sh -c PROBE`, []string{"su"}, true},
	{"`su USER -c`, `runuser -u USER --`", `runuser -u nobody -- PROBE`, []string{"runuser"}, true},
	{"`su - USER -c`, `runuser - USER -c`", `su -s /bin/sh - nobody -c PROBE`, []string{"su"}, true},
	{"`su - USER -c`, `runuser - USER -c`", `runuser -s /bin/sh - nobody -c PROBE`, []string{"runuser"}, true},
	{"`su -w PIKA_LIFECYCLE_FD,… - USER -c`", `su -w PIKA_LIFECYCLE_FD,PIKA_LIFECYCLE_STREAM,PIKA_LIFECYCLE_FIFO -s /bin/sh - nobody -c PROBE`, []string{"su"}, true},
	{"a daemon that closes all descriptors", `python3 -c 'import os
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.closerange(0, 1024)
os.open("/dev/null", os.O_RDWR); os.dup(0); os.dup(0)
os.execv("PROBE", ["PROBE"])'`, []string{"python3"}, false},
}

// probe writes to a file what it can use of the stream: the descriptor, the variables, send,
// and send with the path.
const probe = `#!/bin/sh
cd "${0%/*}" && read -r fd id fifo <facts || exit
is() { "$@" >>errors 2>&1 && echo yes || echo no; }
{
	is test "$(stat -L -c %d:%i "/proc/self/fd/$fd" 2>&1)" = "$id"
	is test -n "$PIKA_LIFECYCLE_FD"
	is PROGRAM send KIND=ready MESSAGE=sent
	[ -z "$fifo" ] || is PROGRAM send --to "$fifo" KIND=ready MESSAGE=to
} >new
mv new out
`

// start starts the probe in the command of run with these flags. It returns the lines that
// the probe has written, and the messages of the events.
func (s starter) start(t *testing.T, flags ...string) (got, messages []string) {
	t.Helper()
	dir := testenv.PlainDir(t)
	testenv.OpenToAll(t, dir)
	file := func(name string) string { return filepath.Join(dir, name) }
	testenv.Must(t, os.Chmod(dir, 0o777),
		os.WriteFile(file("probe"), []byte(strings.ReplaceAll(probe, "PROGRAM", testenv.Program(t))), 0o755), os.Chmod(file("probe"), 0o755),
		os.WriteFile(file("errors"), nil, 0o666), os.Chmod(file("errors"), 0o666))
	for i, flag := range flags {
		flags[i] = strings.ReplaceAll(flag, "DIR", dir)
	}
	if len(flags) > 0 {
		testenv.Must(t, exec.Command("mkfifo", "-m", "622", file("fifo")).Run())
	}
	script := `cd "$1"
		echo "$PIKA_LIFECYCLE_FD $(stat -L -c %d:%i "/proc/self/fd/$PIKA_LIFECYCLE_FD") ${PIKA_LIFECYCLE_FIFO-}" >facts
		` + strings.ReplaceAll(s.script, "PROBE", file("probe")) + `
		until [ -e out ]; do sleep 0.01; done`
	argv := slices.Concat([]string{testenv.Program(t), "run", "--timeout", "1m"}, flags, []string{"--", "sh", "-c", script, "sh", dir})
	_, stderr, code := command{state: file("state")}.run(t, argv...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, stderr, testenv.ReadFile(t, file("errors")))
	}
	t.Logf("%s", testenv.ReadFile(t, file("errors")))
	for _, e := range read(t, file("state"), "events.jsonl") {
		messages = append(messages, e.Message)
	}
	return strings.Fields(testenv.ReadFile(t, file("out"))), messages
}

// row returns the row of the table.
func (s starter) row(t *testing.T) string {
	t.Helper()
	pipe, messages := s.start(t)
	if slices.Contains(messages, "sent") != (pipe[2] == "yes") {
		t.Errorf("send: %s; the messages are %q", pipe[2], messages)
	}
	fifo, messages := s.start(t, "--fifo", "DIR/fifo")
	if slices.Contains(messages, "sent") != (fifo[2] == "yes") {
		t.Errorf("send: %s; the messages are %q", fifo[2], messages)
	}
	if fifo[3] != "yes" || !slices.Contains(messages, "to") {
		t.Errorf("send --to: %s; the messages are %q", fifo[3], messages)
	}
	if !slices.Equal(fifo[:2], pipe[:2]) {
		t.Errorf("without --fifo: %q; with it: %q", pipe, fifo)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", s.name, pipe[0], pipe[1], pipe[2], fifo[2])
}

// The table in run.md has what a program gets that is started in each of these ways.
func TestRunPage_what_survives(t *testing.T) {
	testenv.Tools(t, "sh", "stat", "mkfifo")
	if _, err := os.Lstat("/run/pika-cloud/lifecycle.fifo"); err == nil {
		testenv.Missing(t, "a machine that does not use this program: send would write to its FIFO")
	}
	_, table, _ := strings.Cut(testenv.ReadFile(t, "run.md"), "\n| the command starts it with |")
	rows := regexp.MustCompile(`(?m)^\| (?:.*) \| (?:yes|no) \| (?:yes|no) \| (?:yes|no) \| (?:yes|no) \|$`).FindAllString(table, -1)
	var names []string
	for _, s := range starters {
		if !slices.Contains(names, s.name) {
			names = append(names, s.name)
		}
	}
	if len(rows) != len(names) {
		t.Errorf("the table has %d rows; expected %d", len(rows), len(names))
	}
	for i, s := range starters {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			testenv.Tools(t, s.tools...)
			if s.asRoot {
				testenv.Root(t)
				try := exec.Command("sh", "-c", strings.ReplaceAll(s.script, "PROBE", "true"))
				try.Dir = t.TempDir()
				if text, err := try.CombinedOutput(); err != nil {
					testenv.Missing(t, "permission for %s (%v: %s)", s.name, err, text)
				}
			}
			if row := s.row(t); !slices.Contains(rows, row) {
				t.Errorf("the table has no row\n%s", row)
			}
		})
	}
}
