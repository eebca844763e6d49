//go:build linux && amd64

package powerloss

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// module is the root of the module, from this directory.
const module = "../.."

// inside is set in the process that has a mount namespace of its own.
const inside = "POWERLOSS_INSIDE"

// scratch is for programs, images and mount points; TestMain removes it.
var scratch string

// TestMain runs the tests in a mount namespace of their own: whatever becomes
// of them, the kernel unmounts all there is when the last of them is gone.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		if code, ok := runInside(); ok {
			os.Exit(code)
		}
	}
	dir, err := os.MkdirTemp("/dev/shm", "powerloss") // fast, and nobody's disk wears
	if err != nil {
		dir, err = os.MkdirTemp("", "powerloss")
	}
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// runInside runs this test anew in a mount namespace. It is not ok where that
// is not allowed.
func runInside() (code int, ok bool) {
	runtime.LockOSThread() // Pdeathsig is of the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	return cmd.ProcessState.ExitCode(), err == nil || errors.As(err, &exit)
}

// missing ends a test that needs something which is not there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed", what)
	}
	t.Skipf("%s is needed", what)
}

func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, name)
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// built is the program, built once.
var built = sync.OnceValues(func() (string, error) { return build(nil) })

// program returns the path of the program.
func program(t *testing.T) string {
	t.Helper()
	readSources(t)
	path, err := built()
	check(t, err)
	return path
}

// readSources opens all sources of the program, so that the test cache knows of
// them: it does not see what a go build reads.
func readSources(t *testing.T) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(module, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		found++
		_, err = os.ReadFile(path)
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("%d sources read: %v", found, err)
	}
}

// build builds the program, with the files of overlay in the place of others.
func build(overlay map[string]string) (string, error) {
	dir, err := os.MkdirTemp(scratch, "program")
	if err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pika-cloud-lifecycle")
	return path, goBuild(path, "./cmd/pika-cloud-lifecycle", "-overlay", filepath.Join(dir, "overlay.json"))
}

// goBuild builds a package of the module, static.
func goBuild(path, pkg string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), pkg)...)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, text)
	}
	return nil
}
