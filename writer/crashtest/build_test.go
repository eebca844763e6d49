//go:build linux && amd64

package crashtest

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// module is the root of the module, from this directory.
const module = "../.."

// What all tests share: whether they may trace, and the dry runs.
var (
	probed    sync.Once
	probeErr  error
	rehearsed rehearsals
)

// program returns the path of the program, which this process may trace.
func program(t *testing.T) string {
	t.Helper()
	path := testenv.Program(t)
	probed.Do(func() { probeErr = probe(path) })
	if probeErr != nil {
		testenv.Missing(t, "ptrace(2), which a container may forbid (%v)", probeErr)
	}
	return path
}

// probe tries whether this process may trace the program.
func probe(path string) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, as the tracer needs it
		tr := &tracer{watch: filepath.Dir(path), limit: patience, signatures: signatures()}
		_, err := tr.run([]string{path, "--version"}, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
		result <- err
	}()
	return <-result
}

func TestMain(m *testing.M) {
	// The modes of all artifacts must come out right under any umask.
	os.Exit(testenv.Main{M: m, Umask: 0o077}.Run())
}
