package journal

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// fleetScript runs on a booted machine that is both guest and host. The test
// replaces the names in brackets by the code blocks of docs/fleet.md.
const fleetScript = `#!/bin/bash
exec >/opt/lab/log 2>&1
set -eux
install /opt/lab/pika-cloud-lifecycle /usr/local/bin
cd /opt/lab
[host]
[guest]
echo STATE=ready | pika-cloud-lifecycle ingest --journal=auto --state-dir "$(mktemp -d)"
printf '%s\n' STATE=booted STATE=starting 'STATE=failed EXIT_CODE=3' | pika-cloud-lifecycle ingest --journal=auto
until journalctl -D /var/log/journal/remote -F _MACHINE_ID | grep -q .; do sleep 0.1; done
[units]
copy=/var/lib/pika-cloud-fleet/$(cat /etc/machine-id)
await_copy() {
	until cmp /run/pika-cloud/status.json "$copy/status.json"; do sleep 0.1; done
	cmp /run/pika-cloud/events.jsonl "$copy/events.jsonl"
}
await_copy
cmp /run/pika-cloud/result.json "$copy/result.json"
systemctl restart 'pika-cloud-fleet@*'
echo STATE=starting | pika-cloud-lifecycle ingest --journal=auto
await_copy
[look]
systemctl is-active 'pika-cloud-fleet@*' systemd-journal-upload systemd-journal-remote
touch /opt/lab/done
`

// The commands in docs/fleet.md work on a machine that systemd has booted. The
// packages are already installed, because the machine has no network.
func TestFleet_docs(t *testing.T) {
	testenv.Tools(t, "bash", "systemd-nspawn", remote, upload)
	testenv.Systemd(t)
	page, err := os.ReadFile("../../docs/fleet.md")
	testenv.Must(t, err)
	const install = "apt-get install -y systemd-journal-remote\n"
	blocks := fences(string(page), "sh")
	if len(blocks) != 5 || !strings.HasPrefix(blocks[0], install) || !strings.HasPrefix(blocks[1], install) {
		t.Fatalf("docs/fleet.md has %d sh blocks; want 5, of which the first two begin with %s", len(blocks), install)
	}
	script := strings.NewReplacer("[host]\n", blocks[0], "[guest]\n", strings.Replace(blocks[1], "//HOST:", "//127.0.0.1:", 1),
		"[units]\n", blocks[2], "[look]\n", blocks[3]).Replace(fleetScript)
	lab, units := t.TempDir(), t.TempDir()
	copyFile(t, testenv.Program(t), filepath.Join(lab, Identifier), 0o755)
	copyFile(t, "../../docs/units/pika-cloud-fleet@.service", filepath.Join(lab, "pika-cloud-fleet@.service"), 0o644)
	testenv.Must(t, os.WriteFile(filepath.Join(lab, "test"), []byte(strings.ReplaceAll(script, install, "")), 0o755))
	testenv.Must(t, os.WriteFile(filepath.Join(units, "fleet.target"), []byte("[Unit]\nRequires=test.service\nAfter=test.service\n"), 0o644))
	testenv.Must(t, os.WriteFile(filepath.Join(units, "test.service"),
		[]byte("[Service]\nType=oneshot\nExecStart=/opt/lab/test\nExecStopPost=systemctl --no-block poweroff\n"), 0o644))
	out, err := exec.Command("../../testdata/boot/boot", units, lab, "fleet.target").CombinedOutput()
	if _, stat := os.Stat(filepath.Join(lab, "done")); stat != nil || err != nil {
		t.Errorf("%v\n%s%s", err, out, testenv.ReadIfExists(t, filepath.Join(lab, "log")))
	}
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	text, err := os.ReadFile(from)
	testenv.Must(t, err)
	testenv.Must(t, os.WriteFile(to, text, mode))
}
