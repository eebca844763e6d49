//go:build linux && amd64

package crashtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A mutant is the program with one care taken out. The sweep must see it.
type mutant struct {
	name     string
	file     string   // below the module
	swaps    []string // old and new text by turns
	scenario string
	jobs     func(*scenario, []*call) []job
	at       string // part of the calls that are tried
	kind     string // of the finding
}

func mutants() []mutant {
	return []mutant{
		{"without tail repair", "writer/jsonl.go",
			[]string{"\tj.end = start\n\tif start == size {", "\tj.end = size\n\tif true {"},
			"event/standing", crashJobs, "write run/events.jsonl", unloadable},
		{"numbering from the seq file alone", "writer/eventlog.go",
			[]string{"seq, err := lastSeq(l.lines.file, l.lines.end)\n\tif err != errNoLines {", "seq, err := l.readSeq()\n\tif true {"},
			"event/standing", crashJobs, "events.jsonl.seq", gap},
		{"without the directory fsync", "writer/file.go",
			[]string{"err := retry(func() error { return unix.Fsync(f.fd) })", "var err error"},
			"status/standing", crashJobs, "sync", notDurable},
		{"truncate, then write of the seq file", "writer/eventlog.go",
			[]string{"\tif err := l.seq.file.writeAt(text, 0); err != nil {", "\tl.seq.file.truncate(0)\n\tif err := l.seq.file.writeAt(text, 0); err != nil {"},
			"event/standing", crashJobs, "events.jsonl.seq", seqTooLow},
		{"rename before fsync", "writer/replace.go",
			[]string{"\treturn t.CloseAtomicallyReplace()\n",
				"\tif err := w.root.Rename(t.Name()[strings.LastIndex(t.Name(), \"/\")+1:], w.name); err != nil {\n\t\treturn err\n\t}\n\treturn t.Sync()\n"},
			"status/standing", crashJobs, "sync", notDurable},
		{"without fdatasync of the log", "writer/jsonl.go",
			[]string{"\tif err == nil {\n\t\terr = j.file.sync()\n\t}\n", ""},
			"event/standing", crashJobs, "sync", notDurable},
		{"without the sweep of temporaries", "writer/replace.go",
			[]string{"\t\tw.sweep()\n", ""},
			"status/standing", crashJobs, "write run/.status.json*", leftOver},
		{"status before result", "ingest/commit.go",
			[]string{"(*run).keepResult, (*run).writeResult, (*run).writeStatus,", "(*run).writeStatus, (*run).keepResult, (*run).writeResult,"},
			"ingest/three directives", crashJobs, "renameat", disagree},
		{"a write error that is swallowed", "writer/jsonl.go",
			[]string{"\t\t_ = j.cutBack() // tried again by settle\n\t\treturn err\n", "\t\treturn nil\n"},
			"event/standing", faultJobs, "write run/events.jsonl", lost},
		{"a failed append that is not cut back", "writer/jsonl.go",
			[]string{"\t\t_ = j.cutBack() // tried again by settle\n", "\t\tj.forget()\n", "\tif j.loose == nil {\n", "\tif j.loose = nil; true {\n"},
			"ingest/three directives", faultJobs, "write run/events.jsonl", repeated},
		{"a sync tried again on the same descriptor", "writer/file.go",
			[]string{"f.stale = err != nil", "f.stale = false"},
			"ingest/three directives", faultJobs, "fsync run", notDurable},
		{"following links", "writer/file.go",
			[]string{"flags |= unix.O_NOFOLLOW | ", "flags |= "},
			"event/standing", attackJobs, "openat run/events.jsonl", touched},
		{"writing through a second link", "writer/file.go",
			[]string{"if write && st.Nlink > 1 {", "if false {"},
			"event/standing", attackJobs, "openat run/events.jsonl", touched},
	}
}

// build makes the mutant. A text that is not found fails: a mutant that is the
// program itself would prove nothing.
func (m *mutant) build(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(module, m.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for pair := range slices.Chunk(m.swaps, 2) {
		if strings.Count(text, pair[0]) != 1 {
			t.Fatalf("%s has %d times\n%s", m.file, strings.Count(text, pair[0]), pair[0])
		}
		text = strings.Replace(text, pair[0], pair[1], 1)
	}
	changed := filepath.Join(t.TempDir(), filepath.Base(m.file))
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return testenv.ProgramWith(t, map[string]string{path: changed})
}

// TestSweepCatchesMutants takes care after care out of the program and demands
// that the sweep sees each. The first five are tried everywhere, the others
// where there is time.
func TestSweepCatchesMutants(t *testing.T) {
	program(t)
	all := mutants()
	if share(t, 2) > 1 {
		all = all[:5]
	}
	for _, m := range all {
		t.Run(m.name, m.test)
	}
}

func (m *mutant) test(t *testing.T) {
	program, s := m.build(t), named(t, m.scenario)
	var calls []*call
	ty := sweep(t, program, []job{dryRun(s, false, func(made []*call) { calls = made })})
	tried := 0
	if ty.kinds[m.kind] == 0 {
		jobs := slices.DeleteFunc(m.jobs(s, calls), func(j job) bool { return !strings.Contains(j.call, m.at) })
		tried, ty = len(jobs), sweep(t, program, jobs)
	}
	if ty.kinds[m.kind] == 0 {
		t.Fatalf("not caught at %d points", tried)
	}
	t.Logf("caught %d times at %d points: %s", ty.kinds[m.kind], tried, strings.SplitN(ty.shown[0], "\n", 2)[0])
}

func named(t *testing.T, name string) *scenario {
	t.Helper()
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no scenario %s", name)
	}
	return &all[i]
}
