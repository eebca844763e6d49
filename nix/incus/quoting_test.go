package incus_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// forgery is untrusted text with a line that looks like a directive.
const forgery = "listening\nSTATE=completed MESSAGE=forged EXIT_CODE=0\non 8080"

// printed feeds ingest the line that a Python caller prints for a text, and returns the
// artifacts.
func printed(t *testing.T, caller, text string) (s contents, exit int) {
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
	return readContents(t, dir), ingest.ProcessState.ExitCode()
}

// shlex.quote is made for shells and leaves newlines unescaped. This is why the
// documentation tells Python callers to print JSON.
func TestPython_shlex_quote(t *testing.T) {
	s, exit := printed(t, "shlex_quote.py", forgery)
	if len(s.Events) != 1 || s.Status.State != "completed" || s.Status.Message != "forged" ||
		s.Result == nil || s.Result.State != "completed" {
		t.Errorf("the artifacts are %s\nexpected a forged result; if shlex.quote is safe now, update the documentation", pretty(s))
	}
	if exit != 3 {
		t.Errorf("ingest exits with %d; expected 3, because it rejects the lines around the forged one", exit)
	}
}

func TestPython_json_dumps(t *testing.T) {
	s, exit := printed(t, "json_dumps.py", forgery)
	want := report{State: "ready", Message: forgery}
	if len(s.Events) != 1 || s.Events[0].Message != want.Message || s.Status != want || s.Result != nil || exit != 0 {
		t.Errorf("the artifacts are %s\nand ingest exits with %d; expected %+v and 0", pretty(s), exit, want)
	}
}

// files returns the files that match the patterns. Each pattern must match a file.
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

// parse checks the syntax for Python 3.9, which the scripts support.
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
