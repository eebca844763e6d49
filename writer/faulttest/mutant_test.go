//go:build linux && amd64

package faulttest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A mutant is the program without one safeguard. The sweep must find a problem.
type mutant struct {
	name     string
	edits    []edit
	scenario string
	kind     string // the kind of a finding that the sweep must make

	// The sweep tries the points of jobs whose call contains at. If jobs is nil, it
	// tries power losses at all calls.
	jobs func(*scenario, []*call) []job
	at   string
}

// crashMutants returns the mutants that the sweeps in memory find.
func crashMutants() []mutant {
	return []mutant{
		{"without the repair of a torn line", []edit{{"repair-tail", always}},
			"event/existing", invalidFile, crashJobs, "write run/events.jsonl"},
		{"with seqs only from the seq file", []edit{{"seq-from-log", never}},
			"event/existing", gap, crashJobs, "events.jsonl.seq"},
		{"without the sync of the directory", []edit{{"sync-directory", nilError}},
			"status/existing", notDurable, crashJobs, "sync"},
		{"with a seq file that is overwritten without being raised", []edit{{"raise-seq", never}},
			"event/more digits", seqTooLow, crashJobs, "events.jsonl.seq"},
		{"with the rename before the sync", []edit{{"sync-temporary", renameInstead("faultRenameThenSync")}},
			"status/existing", notDurable, crashJobs, "sync"},
		{"without the sync of the log", []edit{{"sync-log", drop}},
			"event/existing", notDurable, crashJobs, "sync"},
		{"without the removal of temporaries", []edit{{"remove-temporaries", drop}},
			"status/existing", leftOver, crashJobs, "write run/.status.json*"},
		{"with the status before the result", []edit{{"result-before-status", swapWithNext}},
			"ingest/three directives", inconsistent, crashJobs, "renameat"},
		{"with a write error that is ignored", []edit{{"report-append", nilError}},
			"event/existing", lost, faultJobs, "write run/events.jsonl"},
		{"with a failed append that is not undone", []edit{{"undo-append", drop}, {"resolve-append", always}},
			"ingest/three directives", repeated, faultJobs, "write run/events.jsonl"},
		{"with a second sync on the same descriptor", []edit{{"reopen-directory", drop}},
			"ingest/three directives", notDurable, faultJobs, "fsync run"},
		{"with links that are followed", []edit{{"no-follow", replace("unix.O_NOFOLLOW", "0")}},
			"event/existing", changedOutside, attackJobs, "openat run/events.jsonl"},
		{"with a write through a second link", []edit{{"no-second-link", never}},
			"event/existing", changedOutside, attackJobs, "openat run/events.jsonl"},
		{"without the lock on the log", []edit{{"lock-log", always}},
			"event/existing", repeated, secondLockJobs, "pwrite64 run/events.jsonl.seq"},
		{"with seqs that a failed append uses up", []edit{{"return-seqs", drop}},
			"ingest/one directive", gap, allRecoveryJobs, "write run/events.jsonl"},
		{"without the lock of a writer", []edit{{"lock-writer", drop}},
			"ingest/three directives", wrongWait, waiterJobs, "fdatasync run/events.jsonl"},
		{"without the record of a writer", []edit{{"write-record", replace("l.file.WriteAt(text, at)", "len(text), error(nil)")}},
			"run/exit 4", wrongWait, waiterJobs, "fdatasync run/events.jsonl"},
		{"with a record whose slot is not locked", []edit{{"lock-slot", replace("setLock(file.Fd(), slotRange(slot))", "true, error(nil)")}},
			"ingest/one directive", wrongWait, stopJobs, "pwrite64 run/writer.lock"},
		{"with a record that stays after a clean end", []edit{{"blank-record", never}},
			"ingest/one directive", wrongWait, noFaultJob, ""},
	}
}

// withoutLogSync is the index in powerMutants of the mutant that TestKilledMachine runs.
const withoutLogSync = 1

// powerMutants returns the mutants that power losses find, on at least one file system.
func powerMutants() []mutant {
	return []mutant{
		{"without the sync of the directory", []edit{{"sync-directory", nilError}}, "status/existing", lost, nil, ""},
		{"without the sync of the log", []edit{{"sync-log", drop}}, "event/existing", lost, nil, ""},
		{"without the sync of a temporary", []edit{{"sync-temporary", renameInstead("faultRename")}},
			"result/new", invalidFile, nil, ""},
		{"without the sync of a raised seq", []edit{{"sync-raised-seq", never}}, "event/high seq file", seqTooLow, nil, ""},
		{"with a seq file in which NULs are invalid", []edit{{"trim-nuls", replace(`\x00`, "")}},
			"event/only seq file", repeated, nil, ""},
	}
}

// An edit changes the line of the program that ends with the comment
// //fault:MARKER.
type edit struct {
	marker string
	change func(lines []string, i int) ([]string, error)
}

var errNotUsable = errors.New("the edit does not fit the line")

// drop deletes the line.
func drop(lines []string, i int) ([]string, error) { return slices.Delete(lines, i, i+1), nil }

// swapWithNext swaps the line and the next one.
func swapWithNext(lines []string, i int) ([]string, error) {
	lines[i], lines[i+1] = lines[i+1], lines[i]
	return lines, nil
}

// never makes the condition of an if or a case false, and always makes that of an if
// true. Both keep the condition in the code, so all variables are still used.
var (
	never  = rewrite(`^(\s*)(if|case) (.*)( \{|:)$`, "$1$2 false && ($3)$4")
	always = rewrite(`^(\s*)(if) (.*)( \{)$`, "$1$2 true || ($3)$4")
)

// nilError replaces an error that is assigned or returned by nil.
var nilError = rewrite(`^(\s*)(\w+ :?=|return) .*$`, "$1$2 error(nil)")

// renameInstead replaces the call of renameio by one of a function in
// testdata/mutant/rename.go.
func renameInstead(function string) func([]string, int) ([]string, error) {
	return rewrite(`^(\s*return )(\w+)\.CloseAtomicallyReplace\(\)$`, "${1}"+function+"(${2})")
}

// replace replaces the text old in the line.
func replace(old, new string) func([]string, int) ([]string, error) {
	return rewrite(regexp.QuoteMeta(old), strings.ReplaceAll(new, "$", "$$"))
}

// rewrite replaces the match of a regular expression in the line, without its comment.
func rewrite(from, to string) func([]string, int) ([]string, error) {
	expression := regexp.MustCompile(from)
	return func(lines []string, i int) ([]string, error) {
		code, _, _ := strings.Cut(lines[i], "//fault:")
		code = strings.TrimRight(code, " \t")
		if !expression.MatchString(code) {
			return nil, errNotUsable
		}
		lines[i] = expression.ReplaceAllString(code, to)
		return lines, nil
	}
}

var markerPattern = regexp.MustCompile(`//fault:([a-z0-9-]+)`)

// findMarkers returns the file of each marker in the program.
func findMarkers(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, top := range []string{"bootid", "cmd", "ingest", "writer"} {
		testenv.Must(t, filepath.WalkDir(filepath.Join(module, top), func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() && d.Name() == "faulttest" {
				return filepath.SkipDir
			}
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, m := range markerPattern.FindAllStringSubmatch(testenv.ReadFile(t, path), -1) {
				if files[m[1]] != "" {
					t.Errorf("marker %s is in %s and in %s", m[1], files[m[1]], path)
				}
				files[m[1]] = path
			}
			return nil
		}))
	}
	return files
}

// apply returns the changed files of the mutant, by their paths. It ends the test if a
// marker is missing, or if the edit does not change the marked line: a mutant that
// equals the program would prove nothing.
func (m *mutant) apply(t *testing.T) map[string]string {
	t.Helper()
	markers, changed := findMarkers(t), map[string]string{}
	for _, e := range m.edits {
		path := markers[e.marker]
		if path == "" {
			t.Fatalf("no line of the program is marked //fault:%s, which the mutant %q changes", e.marker, m.name)
		}
		if changed[path] == "" {
			changed[path] = testenv.ReadFile(t, path)
		}
		lines := strings.Split(changed[path], "\n")
		i := slices.IndexFunc(lines, func(line string) bool {
			found := markerPattern.FindStringSubmatch(line)
			return found != nil && found[1] == e.marker
		})
		lines, err := e.change(lines, i)
		if err != nil {
			t.Fatalf("%s, //fault:%s: %v", path, e.marker, err)
		}
		changed[path] = strings.Join(lines, "\n")
	}
	return changed
}

// build builds the mutant.
func (m *mutant) build(t *testing.T) (program string) {
	t.Helper()
	dir, overlay := t.TempDir(), map[string]string{}
	for path, text := range m.apply(t) {
		real, err := filepath.Abs(path)
		testenv.Must(t, err)
		overlay[real] = filepath.Join(dir, fmt.Sprintf("%d.go", len(overlay)))
		testenv.Must(t, os.WriteFile(overlay[real], []byte(text), 0o600))
		if strings.Contains(text, "faultRename") {
			helper, err := filepath.Abs("testdata/mutant/rename.go")
			testenv.Must(t, err)
			overlay[filepath.Join(filepath.Dir(real), "faultrename.go")] = helper
		}
	}
	return testenv.ProgramWith(t, overlay)
}

// TestMutantMarkers checks that each mutant finds its markers, and that a mutant uses
// each marker.
func TestMutantMarkers(t *testing.T) {
	used := map[string]bool{}
	for _, m := range slices.Concat(crashMutants(), powerMutants()) {
		m.apply(t)
		for _, e := range m.edits {
			used[e.marker] = true
		}
	}
	for marker, path := range findMarkers(t) {
		if !used[marker] {
			t.Errorf("%s: no mutant changes the line marked //fault:%s", path, marker)
		}
	}
}

// TestCrashMutants checks that the sweeps in memory find each of crashMutants. It tries
// the first five, and with SWEEP=full all of them.
func TestCrashMutants(t *testing.T) {
	program(t)
	all := crashMutants()
	if sampleOneIn(t, 2) > 1 {
		all = all[:5]
	}
	for _, m := range all {
		t.Run(m.name, m.testInMemory)
	}
}

func (m *mutant) testInMemory(t *testing.T) {
	benches, s := newBenches(t, m.build(t)), scenarioNamed(t, m.scenario)
	var calls []*call
	ty := sweep(t, benches, []job{dryRun(s, false, func(made []*call) { calls = made })})
	tried := 0
	if ty.kinds[m.kind] == 0 {
		jobs := slices.DeleteFunc(m.jobs(s, calls), func(j job) bool { return !strings.Contains(j.call, m.at) })
		tried, ty = len(jobs), sweep(t, benches, jobs)
	}
	if ty.kinds[m.kind] == 0 {
		t.Fatalf("no finding of the kind %q at %d points: %v", m.kind, tried, ty)
	}
	first, _, _ := strings.Cut(ty.shown[0], "\n")
	t.Logf("found %d times at %d points: %s", ty.kinds[m.kind], tried, first)
}

// TestPowerLossMutants checks that power losses find each of powerMutants. It tries the
// first two, and with SWEEP=full all of them.
func TestPowerLossMutants(t *testing.T) {
	needDisks(t)
	program(t)
	all := powerMutants()
	if sampleOneIn(t, 2) > 1 {
		all = all[:2]
	}
	for _, m := range all {
		t.Run(m.name, m.testOnDisks)
	}
}

func (m *mutant) testOnDisks(t *testing.T) {
	s := *scenarioNamed(t, m.scenario)
	s.changes = 0 // the mutant makes fewer calls
	found, points := sweepDisks(t, m.build(t), 1, []scenario{s})
	if found.kinds[m.kind] == 0 {
		t.Errorf("no finding of the kind %q at %d points: %v", m.kind, points, found)
	}
}
