//go:build linux && amd64

package powerloss

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// module is the root of the module, from this directory.
const module = "../.."

// inside is set in the process that has a mount namespace of its own.
const inside = "POWERLOSS_INSIDE"

// TestMain runs the tests in a mount namespace of their own: whatever becomes
// of them, the kernel unmounts all there is when the last of them is gone.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		if code, ok := runInside(); ok {
			os.Exit(code)
		}
	}
	os.Exit(testenv.Main{M: m}.Run())
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
