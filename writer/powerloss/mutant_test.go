//go:build linux && amd64

package powerloss

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A mutant is the program with one care taken out. On at least one file system
// a power loss must show it.
type mutant struct {
	name     string
	file     string // below the module
	old, new string
	scenario string
	kind     string // of the finding
}

func mutants() []mutant {
	return []mutant{
		{"without the directory fsync", "writer/file.go",
			"err := retry(func() error { return unix.Fsync(f.fd) })", "var err error",
			"status", lost},
		{"without the data fsync of the log", "writer/jsonl.go",
			"\tif err == nil {\n\t\terr = j.file.sync()\n\t}\n", "",
			"event", lost},
		{"without the data fsync of a temporary", "writer/replace.go",
			"\treturn t.CloseAtomicallyReplace()\n", "\treturn w.root.Rename(t.Name()[strings.LastIndex(t.Name(), \"/\")+1:], w.name)\n",
			"result, no directory", unloadable},
		{"without the fsync of a seq file that is cut", "writer/eventlog.go",
			"\tif digits > size-1 {\n", "\tif false {\n",
			"event, high seq file", seqTooLow},
		{"that takes a seq file with NULs for garbage", "writer/eventlog.go",
			`"\x00 \t\r\n"`, `" \t\r\n"`,
			"event, seq file alone", repeated},
	}
}

// build makes the mutant. A text that is not found fails: a mutant that is the
// program itself would prove nothing.
func (m *mutant) build(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(module, m.file))
	testenv.Must(t, err)
	source, err := os.ReadFile(path)
	testenv.Must(t, err)
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has %d times\n%s", m.file, n, m.old)
	}
	changed := filepath.Join(t.TempDir(), filepath.Base(m.file))
	testenv.Must(t, os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600))
	return testenv.ProgramWith(t, map[string]string{path: changed})
}

// TestPowerLossCatchesMutants takes one care after the other out of the program
// and demands that its lack is seen.
func TestPowerLossCatchesMutants(t *testing.T) {
	needDisks(t)
	testenv.Program(t)
	all := mutants()
	if share() > 1 { // there is little time
		all = all[:2]
	}
	for _, m := range all {
		t.Run(m.name, m.test)
	}
}

func (m *mutant) test(t *testing.T) {
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == m.scenario })
	if i < 0 {
		t.Fatalf("no scenario %s", m.scenario)
	}
	all[i].calls = 0 // there are fewer without it
	caught := 0
	for name, ty := range sweep(t, m.build(t), 1, all[i:i+1]) {
		t.Logf("%s: %d points: %v", name, ty.points, &ty.findings)
		caught += ty.kinds[m.kind]
	}
	if caught == 0 {
		t.Errorf("%s is not caught", m.name)
	}
}
