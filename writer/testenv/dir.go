package testenv

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// bases returns the directories in which tests create their directories, best first. If
// TMPDIR is set, it is the only one. Otherwise directories in memory come first, because
// a guest has its state directory in memory and a sync is fast there.
func bases() []string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return []string{dir}
	}
	return []string{"/dev/shm", os.Getenv("XDG_RUNTIME_DIR"), "/run", os.TempDir()}
}

// makeDir creates a directory that every user may enter, in the first of the bases that
// is in memory and writable, or else in the last.
func makeDir(bases []string) (string, error) {
	last := len(bases) - 1
	for _, base := range bases[:last] {
		if !filepath.IsAbs(base) || !inMemory(base) {
			continue
		}
		if dir, err := makeOpenDir(base); err == nil {
			return dir, nil
		}
	}
	return makeOpenDir(bases[last])
}

// minMemory is the free space in bytes that a tmpfs must have. The largest test needs a
// disk image of 320 MiB, half as much again, and some more. In a container, /dev/shm
// often has only 64 MiB.
const minMemory = 512 << 20

// inMemory reports whether a directory is on a tmpfs with space for the tests.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC && st.Bavail*uint64(st.Bsize) >= minMemory
}

// makeOpenDir creates a directory with mode 0755, whatever the umask is. Its name is
// short, because the path of a socket may have at most 107 bytes.
func makeOpenDir(base string) (string, error) {
	dir, err := os.MkdirTemp(base, "pika")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		os.RemoveAll(dir)
		return "", err
	}
	return dir, nil
}

// TempDir returns a new directory that every user may enter. It is in TMPDIR if that is
// set, and otherwise in memory if there is a writable tmpfs. The directory is removed
// when the test ends. Use t.TempDir for files that need not be in memory.
func TempDir(t testing.TB) string {
	t.Helper()
	return removeAtEnd(t)(makeDir(bases()))
}

// maxPlainDir is the maximum length of the path in bytes. It leaves 27 bytes for the name
// of a socket: the path of a socket has at most 107 bytes (unix(7)).
const maxPlainDir = 80

// plain matches a path that needs no quoting in a shell, a URL or a list of words.
var plain = regexp.MustCompile(`^[-/._0-9A-Za-z]+$`)

// PlainDir returns a directory as TempDir does, with a path that is short enough for a
// socket and needs no quoting in a script. If that is not possible in TMPDIR, the
// directory is in another place.
func PlainDir(t testing.TB) string {
	t.Helper()
	for _, base := range append(bases(), "/dev/shm", "/tmp") {
		dir, err := makeOpenDir(base)
		if err == nil && len(dir) <= maxPlainDir && plain.MatchString(dir) {
			return removeAtEnd(t)(dir, nil)
		}
		if err == nil {
			os.Remove(dir)
		}
	}
	Missing(t, "a directory with a short path of letters and digits; set TMPDIR to one")
	return ""
}

// OpenToAll ends the test unless every user may enter these directories. Often only one
// user may enter TMPDIR.
func OpenToAll(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		for ; ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			Must(t, err)
			if info.Mode()&0o001 == 0 {
				Missing(t, "a temporary directory that every user may enter; set TMPDIR to one (%s has mode %#o)", dir, info.Mode().Perm())
			}
			if dir == "/" {
				break
			}
		}
	}
}

// removeAtEnd returns a function with the results of makeDir as parameters. It ends the
// test if there is an error, and otherwise returns the directory, which is removed when
// the test ends.
func removeAtEnd(t testing.TB) func(string, error) string {
	t.Helper()
	return func(dir string, err error) string {
		t.Helper()
		Must(t, err)
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Errorf("remove the directory of the test: %v", err)
			}
		})
		return dir
	}
}

// Main runs the tests of a package. A package needs it if its tests use Shared, Program,
// or a certain umask:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main{M: m}.Run()) }
type Main struct {
	M     *testing.M
	Umask int // the umask of the tests and their child processes; 0 means 022
}

// shared is the directory that Main.Run creates; "" before and after.
var shared string

// passOnIgnored makes the children of this process start with the default action of all
// signals, also of those that the process which started the tests has ignored: nohup(1), a
// shell's &, or bash -i. A caught signal has its default action in a child (execve(2)).
func passOnIgnored() {
	status, _ := os.ReadFile("/proc/self/status")
	_, mask, _ := strings.Cut(string(status), "\nSigIgn:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	ignored, _ := strconv.ParseUint(mask, 16, 64)
	for s := unix.SIGHUP; s <= unix.SIGSYS; s++ {
		if ignored&(1<<(s-1)) != 0 {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// Run sets the umask, creates the shared directory, runs the tests, removes the directory
// and returns the exit code. The directory is not in memory, because containers often
// mount such directories noexec.
func (m Main) Run() (code int) {
	if m.Umask == 0 {
		m.Umask = 0o022
	}
	unix.Umask(m.Umask)
	passOnIgnored()
	base := os.Getenv("GOTMPDIR") // the go command also runs programs there
	if base == "" {
		base = os.TempDir()
	}
	dir, err := makeOpenDir(base)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testenv: %v; set TMPDIR to a directory that can be written to\n", err)
		return 1
	}
	shared = dir
	defer func() {
		if err := removeReadOnly(dir); err != nil {
			fmt.Fprintf(os.Stderr, "testenv: %v\n", err)
			code = 1
		}
	}()
	return m.M.Run()
}

// removeReadOnly removes a directory tree, including directories that are read-only.
func removeReadOnly(root string) error {
	if os.RemoveAll(root) == nil {
		return nil
	}
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700) // before WalkDir reads it
		}
		return nil
	})
	return os.RemoveAll(root)
}

// Shared returns the directory that all tests of this process share. It panics unless it
// is called during [Main.Run].
func Shared() string {
	if shared == "" {
		panic("testenv: TestMain must call testenv.Main.Run")
	}
	return shared
}

const (
	module  = "github.com/sledtools/pika-cloud-lifecycle"
	program = "pika-cloud-lifecycle"
)

var buildProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(Shared(), program)
	return path, Build(path, module+"/cmd/"+program)
})

// Program returns the path of the program, built with the flags of a release. It is built
// once for all tests of this process. Every user may run it.
func Program(t testing.TB) string {
	t.Helper()
	Tool(t, "go")
	readSources(t)
	path, err := buildProgram()
	Must(t, err)
	return path
}

// ProgramWith builds the program with some source files replaced, and returns its path.
// replaced maps the absolute path of a file to that of its replacement.
func ProgramWith(t testing.TB, replaced map[string]string) string {
	t.Helper()
	Tool(t, "go")
	readSources(t)
	dir, err := os.MkdirTemp(Shared(), "program")
	Must(t, err)
	list, err := json.Marshal(map[string]any{"Replace": replaced})
	overlay, path := filepath.Join(dir, "overlay.json"), filepath.Join(dir, program)
	Must(t, err, os.WriteFile(overlay, list, 0o600), os.Chmod(dir, 0o755))
	Must(t, Build(path, module+"/cmd/"+program, "-overlay", overlay))
	return path
}

// Build builds the package pkg as a static program at path. Every user may run it.
func Build(path, pkg string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return os.Chmod(path, 0o755) // go build applies the umask
}

// readSources reads the source files of the program. Then the test cache of go test
// depends on them, which it would not otherwise, because go build runs as a child process.
func readSources(t testing.TB) {
	t.Helper()
	root, err := moduleRoot()
	Must(t, err)
	found := 0
	for _, top := range []string{"bootid", "cmd", "docs", "ingest", "writer"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			found++
			_, err = os.ReadFile(path)
			return err
		})
		Must(t, err)
	}
	if found == 0 {
		t.Fatalf("%s has no sources", root)
	}
}

// moduleRoot returns the directory of go.mod: the working directory, which is that of
// the package under test, or one of its parents.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, stat := os.Stat(filepath.Join(dir, "go.mod")); stat == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("no go.mod in the working directory or above it")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
