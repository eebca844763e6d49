package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// oomFiles finds the counter in each kind of hierarchy and container.
func TestOOMFiles(t *testing.T) {
	const (
		v2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		v1     = "32 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		other  = "33 31 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
		hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	)
	for name, c := range map[string]struct {
		groups, mounts string
		want           []string
	}{
		"v2":                       {"0::/system.slice/a.service\n", v2, []string{"/sys/fs/cgroup/system.slice/a.service/memory.events"}},
		"v2, root":                 {"0::/\n", v2, []string{"/sys/fs/cgroup/memory.events"}},
		"v1":                       {"5:pids:/p\n4:cpu,memory:/m:x\n", other + v1, []string{"/sys/fs/cgroup/memory/m:x/memory.oom_control"}},
		"both":                     {"4:memory:/m\n0::/u\n", hybrid + v1, []string{"/sys/fs/cgroup/memory/m/memory.oom_control", "/sys/fs/cgroup/unified/u/memory.events"}},
		"only a part is mounted":   {"0::/docker/id/x\n", "1 2 0:1 /docker/id /sys/fs/cgroup ro - cgroup2 c rw\n", []string{"/sys/fs/cgroup/x/memory.events"}},
		"its root":                 {"0::/docker/id\n", "1 2 0:1 /docker/id /sys/fs/cgroup ro - cgroup2 c rw\n", []string{"/sys/fs/cgroup/memory.events"}},
		"another part is mounted":  {"0::/docker/id2\n", "1 2 0:1 /docker/id /sys/fs/cgroup ro - cgroup2 c rw\n", nil},
		"mount outside namespace":  {"0::/\n", "1 2 0:1 /../.. /sys/fs/cgroup ro - cgroup2 c rw\n", nil},
		"process outside it":       {"0::/../x\n", v2, nil},
		"both outside it":          {"0::/../x\n", "1 2 0:1 /.. /sys/fs/cgroup ro - cgroup2 c rw\n", []string{"/sys/fs/cgroup/x/memory.events"}},
		"two mounts, last visible": {"0::/x\n", v2 + "9 2 0:26 /x /sys/fs/cgroup rw - cgroup2 c rw\n", []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/x/memory.events"}},
		"space":                    {"0::/a b\n", `1 2 0:1 / /my\040groups rw shared:1 master:2 - cgroup2 c rw` + "\n", []string{"/my groups/a b/memory.events"}},
		"nothing":                  {"", "", nil},
		"invalid":                  {"x\n0:\n", "1 2\n - \n - cgroup2\n", nil},
	} {
		if got := oomFiles(c.groups, c.mounts); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
}

// memoryCgroup creates a cgroup with little memory and no swap below that of this process,
// and returns its directory.
func memoryCgroup(t *testing.T) string {
	t.Helper()
	groups, err := os.ReadFile("/proc/self/cgroup")
	testenv.Must(t, err)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	testenv.Must(t, err)
	for _, path := range oomFiles(string(groups), string(mounts)) {
		parent := filepath.Dir(path)
		dir, err := os.MkdirTemp(parent, "pika-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { waitUntil(t, dir+" is removed", func() bool { return os.Remove(dir) == nil }) })
		// Version 2 allows this only if no process is in the parent.
		_ = os.WriteFile(parent+"/cgroup.subtree_control", []byte("+memory"), 0)
		for _, limit := range []string{"memory.max", "memory.limit_in_bytes"} {
			if os.WriteFile(dir+"/"+limit, []byte("64M"), 0) == nil {
				_ = os.WriteFile(dir+"/memory.swap.max", []byte("0"), 0)
				_ = os.WriteFile(dir+"/memory.memsw.limit_in_bytes", []byte("64M"), 0)
				return dir
			}
		}
	}
	testenv.Missing(t, "a writable cgroup with the memory controller")
	return ""
}

// run records how many processes of its cgroup the OOM killer has killed while the command
// ran.
func TestRun_oom_kills(t *testing.T) {
	testenv.Tools(t, "bash", "tail")
	group := memoryCgroup(t)
	const hog = "tail /dev/zero" // buffers a line that never ends
	for _, c := range []struct {
		name, script, details string
		code                  int
	}{
		{"command", "exec " + hog, `{"signal":"SIGKILL","oom_kills":1}`, 137},
		{"child", hog + "; exit 1", `{"oom_kills":1}`, 1},
		{"child, completed", hog + "; " + hog + "; exit 0", `{"oom_kills":2}`, 0},
		{"kills of an earlier command", "exit 1", "", 1},
		{"killed otherwise", "kill -KILL $$", `{"signal":"SIGKILL"}`, 137},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := launch(t, t.TempDir(), func(cmd *exec.Cmd) {
				bash, err := exec.LookPath("bash")
				testenv.Must(t, err)
				cmd.Args = append([]string{"bash", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group, program}, cmd.Args[1:]...)
				cmd.Path = bash
			}, "run", "--", "bash", "-c", c.script)
			p.exits(c.code)
			want := ""
			if c.details != "" {
				want = fmt.Sprintf("\n  \"details\": %s,", c.details)
			}
			p.contains("result.json", "\","+want+"\n  \"boot_id\"") // after the message
			p.checkDir()
		})
	}
}
