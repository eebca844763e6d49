//go:build linux && amd64

package faulttest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// On the host, wait notices what a guest writes to a shared directory, before and after the
// directory exists. It does not find out that the guest is killed. Afterwards the files are
// complete.
func TestHost_shared_directory(t *testing.T) {
	kernel, program := needMachines(t), testenv.Program(t)
	for _, name := range []string{"9p", "virtiofs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, program, kernel, guestFileSystems()[name])
			dir := filepath.Join(m.shared, "guest")
			waits := func(word, timeout string, more ...string) *exec.Cmd {
				return exec.Command(program, append([]string{"wait", "--boot=any", "--state-dir=" + dir, "--for=" + word, "--timeout=" + timeout}, more...)...)
			}
			first := waits("ready", guestLimit.String())
			var output bytes.Buffer
			first.Stdout, first.Stderr = &output, &output
			testenv.Must(t, first.Start())
			b := m.boot(t, "load=guest")
			if err := first.Wait(); err != nil {
				t.Errorf("wait that has started before the guest: %v; %s", err, &output)
			}
			if out, err := waits("ready", guestLimit.String(), "--after=30").CombinedOutput(); err != nil {
				shown, _ := exec.Command(program, "show", dir).CombinedOutput()
				t.Errorf("wait for a later event: %v; %s%s", err, out, shown[max(0, len(shown)-1000):])
			}
			b.killAt(t, 0)
			out, _ := waits("completed", "2s").CombinedOutput()
			if !strings.Contains(string(out), "2s") {
				t.Errorf("wait after the guest was killed prints %q; expected that the time is over", out)
			}
			// The last line may be incomplete, which is valid.
			if out, err := exec.Command(program, "show", dir).CombinedOutput(); err != nil || !strings.Contains(string(out), "line-40") {
				t.Errorf("show: %v; %.2000s", err, out)
			}
		})
	}
}

// The page on hosts has the arguments of qemu and mount(8) with which the guests of these
// tests start.
func TestHostPage_qemu(t *testing.T) {
	page := strings.ReplaceAll(testenv.ReadFile(t, module+"/docs/host.md"), "\\\n  ", "")
	for name, want := range map[string][]string{
		"9p":       sharedWith9p("/srv/guests/guest7"),
		"virtiofs": sharedWithVirtiofs("/run/guest7.sock"),
	} {
		fs := guestFileSystems()[name]
		mount := "mount -t " + fs.kind
		if fs.options != "" {
			mount += " -o " + fs.options
		}
		for _, text := range []string{strings.Join(want, " "), mount + " shared "} {
			if !strings.Contains(page, text) {
				t.Errorf("host.md has no %s", text)
			}
		}
	}
}
