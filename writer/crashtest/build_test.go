//go:build linux && amd64

package crashtest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// module is the root of the module, from this directory.
const module = "../.."

// What all tests share: the program and its rehearsals.
var (
	built     = sync.OnceValues(func() (string, error) { return build(nil) })
	traceable = sync.OnceValue(probe)
	rehearsed rehearsals
)

// program returns the path of the program, built once.
func program(t *testing.T) string {
	t.Helper()
	readSources(t)
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	if err := traceable(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("ptrace(2) is needed: %v", err)
		}
		t.Skipf("ptrace(2) is needed: %v", err)
	}
	return path
}

// probe tries whether this process may trace: containers often may not.
func probe() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, as the tracer needs it
		path, err := built()
		if err == nil {
			tr := &tracer{watch: scratch, limit: patience, signatures: signatures()}
			_, err = tr.run([]string{path, "--version"}, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
		}
		result <- err
	}()
	return <-result
}

// scratch is where programs are built; TestMain removes it.
var scratch string

func TestMain(m *testing.M) {
	// The modes of all artifacts must come out right under any umask.
	unix.Umask(0o077)
	dir, err := os.MkdirTemp("", "crashtest")
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// readSources opens all sources of the program, so that the test cache knows
// of them: it does not see what a go build reads.
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
	args := []string{"build", "-o", filepath.Join(dir, "pika-cloud-lifecycle")}
	if overlay != nil {
		text, err := json.Marshal(map[string]any{"Replace": overlay})
		if err != nil {
			return "", err
		}
		list := filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(list, text, 0o600); err != nil {
			return "", err
		}
		args = append(args, "-overlay", list)
	}
	cmd := exec.Command("go", append(args, "./cmd/pika-cloud-lifecycle")...)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return filepath.Join(dir, "pika-cloud-lifecycle"), nil
}
