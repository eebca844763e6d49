package incus_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// forgery is text that a guest got from somewhere, in which a line looks like
// a directive.
const forgery = "listening\nSTATE=completed MESSAGE=forged EXIT_CODE=0\non 8080"

// printed returns what ingest makes of what a Python caller prints for a text.
func printed(t *testing.T, caller, text string) (s story, exit int) {
	t.Helper()
	python := testenv.Python(t)
	line, err := exec.Command(python, filepath.Join("testdata", caller), text).Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ingest := exec.Command(testenv.Program(t), "ingest", "--state-dir", dir)
	ingest.Stdin = bytes.NewReader(line)
	if err := ingest.Run(); ingest.ProcessState == nil {
		t.Fatal(err)
	}
	return readStory(t, dir), ingest.ProcessState.ExitCode()
}

// What shlex.quote does is right for a shell, and wrong here: it is the reason
// why the documentation has Python callers print JSON.
func TestPython_shlex_quote(t *testing.T) {
	s, exit := printed(t, "shlex_quote.py", forgery)
	if len(s.Events) != 1 || s.Status.State != "completed" || s.Status.Message != "forged" ||
		s.Result == nil || s.Result.State != "completed" {
		t.Errorf("the artifacts tell %s\nif shlex.quote is safe now, the documentation says too much", pretty(s))
	}
	if exit != 3 {
		t.Errorf("ingest exits with %d, want 3: the lines around the forged one are refused", exit)
	}
}

func TestPython_json_dumps(t *testing.T) {
	s, exit := printed(t, "json_dumps.py", forgery)
	want := account{State: "ready", Message: forgery}
	if len(s.Events) != 1 || s.Events[0].Message != want.Message || s.Status != want || s.Result != nil || exit != 0 {
		t.Errorf("the artifacts tell %s\nand ingest exits with %d, want %+v and 0", pretty(s), exit, want)
	}
}

// files returns what matches the patterns, each of which must match something.
func files(t *testing.T, patterns ...string) (all []string) {
	t.Helper()
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		all = append(all, found...)
	}
	return all
}

func TestShellScripts_shellcheck(t *testing.T) {
	t.Parallel()
	scripts := files(t, "*.sh", "testdata/*.sh")
	if out, err := exec.Command(testenv.Tool(t, "shellcheck"), scripts...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The examples say that they run on Python 3.9.
const parse = `import ast, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        ast.parse(file.read(), path, feature_version=(3, 9))`

func TestPythonScripts_compile(t *testing.T) {
	t.Parallel()
	python, scripts := testenv.Python(t), files(t, "*.py", "testdata/*.py")
	for _, args := range [][]string{{"-m", "py_compile"}, {"-c", parse}} {
		cmd := exec.Command(python, append(args, scripts...)...)
		cmd.Env = append(os.Environ(), "PYTHONPYCACHEPREFIX="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
