package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// otherID is the ID of a user and of a group that own no files.
const otherID = 65534

var canActAsRoot = sync.OnceValue(probeRoot)

// IsRoot reports whether the tests run as root with the capabilities to change the owner
// of files, to become another user, and to use the files of other users. It is false for
// root without these capabilities, or in a user namespace without other users.
func IsRoot() bool { return canActAsRoot() == nil }

// Root ends the test unless [IsRoot].
func Root(t testing.TB) {
	t.Helper()
	if err := canActAsRoot(); err != nil {
		Missing(t, "root, with the capabilities to own and open files and to become other users; run as root (%v)", err)
	}
}

func probeRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("user %d", os.Geteuid())
	}
	held, err := effectiveCapabilities()
	if err != nil {
		return err
	}
	for name, bit := range map[string]uint{"CAP_CHOWN": unix.CAP_CHOWN, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE,
		"CAP_FOWNER": unix.CAP_FOWNER, "CAP_SETGID": unix.CAP_SETGID, "CAP_SETUID": unix.CAP_SETUID, "CAP_KILL": unix.CAP_KILL} {
		if held&(1<<bit) == 0 {
			return fmt.Errorf("no %s", name)
		}
	}
	return inDir(func(dir string) error { return os.Chown(dir, otherID, otherID) }) // fails in a user namespace without that user
}

// effectiveCapabilities returns the effective capabilities of this process as a bit set.
func effectiveCapabilities() (set uint64, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err = unix.Capget(&header, &data[0])
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), err
}

// inDir calls f with a new directory, and removes the directory afterwards.
func inDir(f func(dir string) error) error {
	dir, err := makeDir(bases())
	if err != nil {
		return err
	}
	return errors.Join(f(dir), os.RemoveAll(dir))
}

// CanMknod reports whether the tests may create a device in a temporary directory.
var CanMknod = sync.OnceValue(func() bool {
	return inDir(func(dir string) error {
		return unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
	}) == nil
})

var canMount = sync.OnceValue(func() error {
	return inMountNamespace(func() error {
		return inDir(func(dir string) error {
			if err := unix.Mount("probe", dir, "tmpfs", 0, "size=16k"); err != nil {
				return fmt.Errorf("mount: %w", err)
			}
			return unix.Unmount(dir, 0)
		})
	})
})

// inMountNamespace calls f on a thread with a new mount namespace, which ends with the
// thread.
func inMountNamespace(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			result <- fmt.Errorf("unshare: %w", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			result <- fmt.Errorf("mount --make-rprivate /: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}

// CanMount reports whether the tests may create a mount namespace and mount a tmpfs in
// it.
func CanMount() bool { return canMount() == nil }

// Mount ends the test unless [CanMount].
func Mount(t testing.TB) {
	t.Helper()
	if err := canMount(); err != nil {
		Missing(t, "a mount namespace; run as root with CAP_SYS_ADMIN (%v)", err)
	}
}

// aloneEnv is the environment variable that [Alone] sets in the child process, to the name
// of the test.
const aloneEnv = "PIKA_TEST_ALONE"

// IsChild reports whether this process is the child process of [Alone] or
// [AloneWithMounts]. Such a process runs one test.
func IsChild() bool { return os.Getenv(aloneEnv) != "" }

// Alone runs the calling test in a child process, in which it may change limits, the user
// or the working directory. Alone returns true in the child process. In the parent, it
// returns false after the child has passed, and otherwise ends the test:
//
//	if !testenv.Alone(t) {
//		return
//	}
func Alone(t *testing.T) bool {
	t.Helper()
	return alone(t, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
}

// AloneWithMounts is like [Alone], but the child process has a new mount namespace, so
// everything that the test mounts is unmounted when it ends. AloneWithMounts ends the
// test unless [CanMount].
func AloneWithMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) != t.Name() {
		Mount(t)
	}
	return alone(t, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: unix.CLONE_NEWNS})
}

// canUnshareUsers starts a process in a new user namespace, in which it is root.
var canUnshareUsers = sync.OnceValue(func() error {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Args[0] = os.Args[0]
	cmd.SysProcAttr = usersAttr()
	return cmd.Run()
})

// usersAttr starts a process in a new user namespace, in which it is root.
func usersAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
}

// AloneWithUsers is like [Alone], but the child process is root in a new user namespace,
// so it may change the limits in /proc/sys/user (namespaces(7)). AloneWithUsers ends the
// test if that is not allowed.
func AloneWithUsers(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) != t.Name() {
		if err := canUnshareUsers(); err != nil {
			Missing(t, "a user namespace; allow it, such as with sysctl -w user.max_user_namespaces=100 (%v)", err)
		}
	}
	return alone(t, usersAttr())
}

func alone(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(aloneEnv) == t.Name() {
		return true
	}
	runtime.LockOSThread() // Pdeathsig is sent when this thread ends
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), aloneEnv+"="+t.Name())
	cmd.SysProcAttr = attr
	text, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, text)
	case bytes.Contains(text, []byte("--- SKIP")):
		t.Skipf("%s", text)
	case !bytes.Contains(text, []byte("--- PASS: "+t.Name())):
		t.Fatalf("the test did not run:\n%s", text)
	}
	return false
}

// straceWorks runs strace on itself, because a container may contain strace but not allow
// tracing.
var straceWorks = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "strace", "-V").CombinedOutput()
})

// Strace ends the test unless strace is installed and tracing is allowed.
func Strace(t testing.TB) {
	t.Helper()
	Tool(t, "strace")
	if text, err := straceWorks(); err != nil {
		Missing(t, "permission to trace; allow ptrace(2) (%v: %s)", err, bytes.TrimSpace(text))
	}
}

// canBoot starts a container on an overlay of the root file system of this machine, as
// testdata/boot/boot does.
var canBoot = sync.OnceValue(func() error {
	return inMountNamespace(func() error {
		if err := unix.Mount("probe", "/run", "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount /run: %w", err)
		}
		root := "/run/root"
		for _, dir := range []string{root, "/run/upper", "/run/work"} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount("probe", root, "overlay", 0, "lowerdir=/,upperdir=/run/upper,workdir=/run/work"); err != nil {
			return fmt.Errorf("mount an overlay: %w", err)
		}
		cmd := exec.Command("systemd-nspawn", "--quiet", "--directory="+root, "--register=no", "--keep-unit",
			"--private-network", "--console=pipe", "--", "/bin/true")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("systemd-nspawn: %w: %s", err, bytes.TrimSpace(text))
		}
		return nil
	})
})

// Systemd ends the test unless testdata/boot/boot can boot systemd in a container.
func Systemd(t testing.TB) {
	t.Helper()
	Tools(t, "bash", "systemd-nspawn", "/lib/systemd/systemd", "unshare", "setpriv", "timeout", "findmnt", "mount")
	Root(t)
	if err := canBoot(); err != nil {
		Missing(t, "permission to boot systemd in a container; run as root with all capabilities (%v)", err)
	}
}
