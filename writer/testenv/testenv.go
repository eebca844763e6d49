// Package testenv asks the machine what it offers to a test, and has the small
// helpers that the tests of several packages share. Only tests import it.
//
// A test says what it needs before it starts:
//
//	testenv.Tool(t, "jq")      // a command
//	testenv.Root(t)            // an ability: the probe tries it
//	dir := testenv.TempDir(t)  // a directory in memory
//
// Where that is missing the test is skipped with a reason, so the tests pass in
// any container and for any user. PIKA_TEST_NO_SKIP=1 turns each of these skips
// into a failure, for a machine on which every test must run.
//
// A probe tries the ability itself and never asks for user 0 alone: root in a
// container often may not mount, and an ordinary user sometimes may.
package testenv

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// noSkip is the environment variable that turns skips into failures.
const noSkip = "PIKA_TEST_NO_SKIP"

// NoSkip reports whether a missing part is a failure.
func NoSkip() bool { return os.Getenv(noSkip) == "1" }

// Missing ends a test that needs something which is not here: it skips the test,
// or fails it if [NoSkip]. The text completes "needs".
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if NoSkip() {
		t.Fatalf("needs "+format+" ("+noSkip+" is set)", args...)
	}
	t.Skipf("needs "+format, args...)
}

// Tool returns the path of a command, which may be given by name or by path. It
// ends the test if the command is not installed.
func Tool(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "%s; install it", name)
	}
	return path
}

// Tools ends the test if one of the commands is not installed.
func Tools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		Tool(t, name)
	}
}

// findPython asks Python for its path: a shim on PATH can take a second to start.
var findPython = sync.OnceValues(func() (string, error) {
	path, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(path)), err
})

// Python returns the path of the Python interpreter itself, not of a shim. It
// ends the test if there is none.
func Python(t testing.TB) (path string) {
	t.Helper()
	Tool(t, "python3")
	path, err := findPython()
	if err != nil {
		Missing(t, "a python3 that runs; it ends with %v", err)
	}
	return path
}

// Must ends the test if one of errs is not nil.
func Must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// ReadFile returns the content of a file. It ends the test if there is none.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	Must(t, err)
	return string(text)
}

// ReadIfExists returns the content of a file, or "" if there is none.
func ReadIfExists(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		Must(t, err)
	}
	return string(text)
}
