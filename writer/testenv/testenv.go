// Package testenv finds out which tools and permissions a test can use, and has
// helpers that the tests of several packages share. Only tests import it.
//
// A test declares its requirements before it starts:
//
//	testenv.Tool(t, "jq")      // a program
//	testenv.Root(t)            // a permission
//	dir := testenv.TempDir(t)  // a directory in memory
//
// If a requirement is missing, the test is skipped and reports the reason, so the
// tests pass in any container and for any user. With PIKA_TEST_NO_SKIP=1, the test
// fails instead. Set it on a machine on which every test must run.
//
// To find out whether a permission exists, the package tries to use it, and does not
// only check the user ID: root in a container often may not mount, and an ordinary
// user sometimes may.
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

// NoSkip reports whether a test must fail, and not be skipped, if a requirement is
// missing.
func NoSkip() bool { return os.Getenv(noSkip) == "1" }

// Missing ends a test because a requirement is missing: it skips the test, or fails it
// if [NoSkip]. The format describes the requirement and follows the word "needs".
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if NoSkip() {
		t.Fatalf("needs "+format+" ("+noSkip+" is set)", args...)
	}
	t.Skipf("needs "+format, args...)
}

// Tool returns the path of a program, which is given by name or path. It ends the test
// if the program is not installed.
func Tool(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "%s; install it", name)
	}
	return path
}

// Tools ends the test if one of the programs is not installed.
func Tools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		Tool(t, name)
	}
}

// findPython returns the path that Python itself reports. The python3 on PATH may be a
// shim that takes a second to start.
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
		Missing(t, "a working python3 (%v)", err)
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

// ReadFile returns the content of a file. It ends the test if it cannot read the file.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	Must(t, err)
	return string(text)
}

// ReadIfExists returns the content of a file, or "" if the file is missing.
func ReadIfExists(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		Must(t, err)
	}
	return string(text)
}
