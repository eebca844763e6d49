package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The tests run the program at a fixed time and with a fixed boot ID.
const (
	program  = "pika-cloud-lifecycle"
	testTime = "2026-03-25T20:00:00.123Z"
	testBoot = "11111111-2222-4333-8444-555555555555"
)

// noRaceSleep is the GORACE setting with which the race detector does not wait for a
// second at the end of each process.
const noRaceSleep = "atexit_sleep_ms=0"

var update = flag.Bool("u", false, "rewrite what scripts compare with")

// TestMain makes this test binary available to scripts under the name of the program.
//
// Most tests wait for other processes, so more of them run in parallel than there are
// processors.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8")
	if testenv.IsChild() {
		os.Exit(tests{m}.Run()) // no scripts; their programs need the path of this file, which may not exist here
	}
	testscript.Main(tests{m}, map[string]func(){program: testProgram})
}

// testProgram is like main, but gets the time and the boot ID from the environment. The
// program itself has no such option.
func testProgram() {
	a := app{
		stdout: os.Stdout,
		stderr: &console{fd: 2},
		getenv: os.Getenv,
		clock:  testClock,
		bootID: func() string { return os.Getenv("TEST_BOOT_ID") },
		umask:  clearOwnerUmask(),
	}
	os.Exit(a.main(os.Args[1:]))
}

func testClock() ingest.Moment { return testMoment(os.Getenv("TEST_TIME")) }

func testMoment(text string) ingest.Moment {
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return ingest.Moment{Time: now, Uptime: 4200 * time.Millisecond}
}

func TestScripts(t *testing.T) {
	testenv.Tool(t, "bash")
	schemas := compileSchemas(t)
	checked := new(atomic.Int64)
	t.Cleanup(func() {
		if checked.Load() == 0 && flag.Lookup("test.run").Value.String() == "" {
			t.Error("no script left an artifact")
		}
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "../../testdata/script", // testscript fails if it has no scripts
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition:           missing,
		Deadline:            scriptsEnd(t),
		Setup: func(env *testscript.Env) error {
			env.Setenv("TEST_TIME", testTime)
			env.Setenv("TEST_BOOT_ID", testBoot)
			env.Setenv("GORACE", noRaceSleep)
			env.Setenv(markVar, os.Getenv(markVar))
			env.Setenv("PIKA_LIFECYCLE_DIR", filepath.Join(env.WorkDir, "run"))
			before, err := readArtifacts(env.WorkDir)
			env.Defer(func() {
				n, err := schemas.checkAll(env.WorkDir, before)
				if checked.Add(int64(n)); err != nil {
					env.T().Fatal(err)
				}
			})
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"awaits": awaits, "ends": ends, "exits": exits, "holds": holds, "mode": mode, "values": values,
		},
	})
}

// scriptsEnd returns the time at which a script that is still running is killed.
func scriptsEnd(t *testing.T) time.Time {
	end := time.Now().Add(4 * waitLimit)
	if limit, ok := t.Deadline(); ok && limit.Before(end) {
		return limit
	}
	return end
}

// awaits FILE [TEXT] waits until a file exists and, if TEXT is given, contains it.
func awaits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: awaits file [text]")
	}
	path := ts.MkAbs(args[0])
	for end := time.Now().Add(waitLimit); ; time.Sleep(time.Millisecond) {
		if len(args) == 1 {
			if _, err := os.Lstat(path); err == nil {
				return
			}
		} else if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), args[1]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no %s after %v", strings.Join(args, " with "), waitLimit)
		}
	}
}

// ends FILE waits until the process whose ID is in a file has ended.
func ends(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ends file")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	for end := time.Now().Add(waitLimit); ; time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(text), ") Z ") {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("process %d of %s still runs after %v", pid, args[0], waitLimit)
		}
	}
}

// exits N PROGRAM ARG... runs a program and fails unless it exits with N.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// holds DIR NAME... fails unless DIR contains exactly these files. Hidden files count,
// because the names of temporary files start with a dot.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: holds dir [names...]")
	}
	names, err := namesIn(ts.MkAbs(args[0]))
	ts.Check(err)
	want := slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(names, want) {
		ts.Fatalf("%s holds %q, want %q", args[0], names, want)
	}
}

func namesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// mode OCTAL FILE... fails unless the files have this mode.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode octal files...")
	}
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, name := range args[1:] {
		info, err := os.Lstat(ts.MkAbs(name))
		ts.Check(err)
		if got := info.Mode().Perm(); got != fs.FileMode(want) {
			ts.Fatalf("%s has mode %04o, want %04o", name, got, want)
		}
	}
}

// values KEY,KEY... FILE... prints, for each line of the files, an array of the values of
// these keys, with null for a missing key.
func values(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: values key,key... files...")
	}
	for _, name := range args[1:] {
		for _, line := range linesOf(ts.ReadFile(name)) {
			var fields map[string]json.RawMessage
			ts.Check(json.Unmarshal([]byte(line), &fields))
			var row []json.RawMessage
			for _, key := range strings.Split(args[0], ",") {
				row = append(row, fields[key])
			}
			text, err := json.Marshal(row)
			ts.Check(err)
			fmt.Fprintln(ts.Stdout(), string(text))
		}
	}
}

// linesOf returns the lines of text, without their newlines.
func linesOf(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// missing implements the condition [missing:TOOL], with which a script is skipped if a
// tool is not installed. It returns an error instead if [testenv.NoSkip].
func missing(condition string) (bool, error) {
	tool, ok := strings.CutPrefix(condition, "missing:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", condition)
	}
	_, err := exec.LookPath(tool)
	if err != nil && testenv.NoSkip() {
		return true, err
	}
	return err != nil, nil
}
