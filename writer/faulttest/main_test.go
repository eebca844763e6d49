//go:build linux && amd64

package faulttest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// module is the root directory of the module, relative to this package.
const module = "../.."

// inNamespace is the environment variable that is set in the process that has its own
// mount namespace.
const inNamespace = "PIKA_FAULTTEST_NAMESPACE"

// TestMain runs the tests in a new mount namespace, if that is allowed. The kernel
// then unmounts their disks when the last of their processes ends, even if they are
// killed.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) == "" {
		if code, ok := runInNamespace(); ok {
			os.Exit(code)
		}
	}
	// The modes of the artifacts must not depend on the umask.
	os.Exit(testenv.Main{M: m, Umask: 0o077}.Run())
}

// runInNamespace runs these tests in a child process with a new mount namespace. ok
// is false if that is not allowed.
func runInNamespace() (code int, ok bool) {
	runtime.LockOSThread() // Pdeathsig is sent when this thread ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	return cmd.ProcessState.ExitCode(), err == nil || errors.As(err, &exit)
}

// sampleOneIn returns n, so that one point in n is tried, or 1 with SWEEP=full.
func sampleOneIn(t *testing.T, n int) int {
	t.Helper()
	if os.Getenv("SWEEP") != "" {
		n = 1
	}
	t.Logf("one point in %d is tried; SWEEP=full tries all", n)
	return n
}

// The result of probe, which runs once for all tests.
var (
	probed   sync.Once
	probeErr error
)

// program returns the path of the built program. It ends the test if this
// process may not trace.
func program(t *testing.T) string {
	t.Helper()
	path := testenv.Program(t)
	needTracer(t, path)
	return path
}

func needTracer(t *testing.T, path string) {
	t.Helper()
	probed.Do(func() { probeErr = probe(path) })
	if probeErr != nil {
		testenv.Missing(t, "ptrace(2), which a container may forbid (%v)", probeErr)
	}
}

// probe tries to trace the program. It returns an error if that is not allowed.
func probe(path string) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, as the tracer requires
		tr := &tracer{watch: filepath.Dir(path), limit: runLimit}
		_, err := tr.run([]string{path, "--version"}, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
		result <- err
	}()
	return <-result
}
