package docs_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// ordinaryUser is the user and group ID that the README's commands run with
// when the tests run as root.
const ordinaryUser = 1000

// The shell blocks of the README work as written, in order, in one shell of an
// ordinary user with an empty home directory.
func TestReadme(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	u := newReader(t)
	blocks := shellBlocks(t, "../README.md")
	output := u.paste(t, bash, blocks)

	for i, want := range []struct{ block, output string }{
		{"ingest --state-dir", `"status": "completed"`},
		{"ingest --state-dir", `(?m)^20:00:19\.902   \+13\.4s .* starting `},
		{"wait --for completed", `^completed: all tests passed\n$`},
		{"exec 3> >(", `^working\n$`},
		{"pika-cloud-lifecycle plot", `(?m)^\d\d:\d\d:\d\d\.\d{3} .* failed +exited with 7$`},
		{"pika-cloud-lifecycle plot", `; 7 events in 1 boot`},
	} {
		n := slices.IndexFunc(blocks, func(b shellBlock) bool { return strings.Contains(b.text, want.block) })
		if n < 0 {
			t.Errorf("case %d: the README has no block with %q", i, want.block)
		} else if !regexp.MustCompile(want.output).MatchString(output[n]) {
			t.Errorf("%sprints\n%sexpected a match of %s", blocks[n].text, output[n], want.output)
		}
	}

	state := u.stateDir(t)
	if s := readOne(t, state, "status.json"); s.State != "completed" || s.Message != "all tests passed" {
		t.Errorf("status %+v", s)
	}
	if got, want := kinds(read(t, state, "events.jsonl")), []string{"starting", "ready", "completed", "booted", "starting", "failed", "completed"}; !slices.Equal(got, want) {
		t.Errorf("events %v; expected %v", got, want)
	}
	if r := readOne(t, state, "result.json"); r.Status != "completed" || r.ExitCode == nil || *r.ExitCode != 0 {
		t.Errorf("result %+v", r)
	}
}

// A shellBlock is a block of sh, in which each command must exit with 0, or a
// block of bash, which is a script that must exit with 0.
type shellBlock struct{ lang, text string }

func shellBlocks(t *testing.T, page string) (blocks []shellBlock) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(testenv.ReadFile(t, page), -1) {
		switch m[1] {
		case "sh", "bash":
			blocks = append(blocks, shellBlock{m[1], m[2]})
		case "python", "text":
		default:
			t.Errorf("%s: a block of %s is not tested; use sh or bash", page, m[1])
		}
	}
	return blocks
}

// A reader has cloned the repository, and pastes what the README shows.
type reader struct {
	home string              // holds clone and tmp, and cache if user is set
	env  []string            // all of the environment
	user *syscall.Credential // nil: the user that runs the tests
}

func newReader(t *testing.T) *reader {
	t.Helper()
	home := t.TempDir()
	copyTree(t, filepath.Join(home, "clone"))
	if err := os.Mkdir(filepath.Join(home, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	cache := goCache(t)
	var user *syscall.Credential
	if os.Getuid() == 0 {
		// The directory that holds a test's temporary directories is private.
		if err := os.Chmod(filepath.Dir(home), 0o755); err != nil {
			t.Fatal(err)
		}
		if user = canRun(t, home, "go", "version"); user != nil {
			chownTree(t, home)
			linkCache(t, cache, filepath.Join(home, "cache"))
			cache = filepath.Join(home, "cache")
		}
	}
	return &reader{home: home, user: user, env: []string{
		"HOME=" + home, "TMPDIR=" + home + "/tmp", "PATH=" + os.Getenv("PATH"), "GOCACHE=" + cache, "TZ=UTC",
	}}
}

// canRun returns the ordinary user, or nil if that user cannot run the command
// in dir, for example because Go is installed in root's home directory.
func canRun(t *testing.T, dir string, argv ...string) *syscall.Credential {
	t.Helper()
	user := &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: user}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("the examples run as root, because uid %d cannot run %q: %v\n%s", ordinaryUser, argv, err, out)
		return nil
	}
	return user
}

// paste runs the blocks in one shell and returns the output of each. It skips
// the block that runs the tests, because they are already running.
func (u *reader) paste(t *testing.T, bash string, blocks []shellBlock) []string {
	t.Helper()
	var script strings.Builder
	tests := 0
	for _, b := range blocks {
		text := b.text
		switch {
		case text == "go test ./...\n":
			tests++
			text = ":\n"
		case b.lang == "sh":
			text = "set -e\n" + text + "set +e\n"
		}
		script.WriteString(text + `printf '\0%d\0' $?` + "\n")
	}
	if tests != 1 {
		t.Errorf("%d blocks run the tests; expected 1", tests)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, "-c", script.String())
	cmd.Dir = filepath.Join(u.home, "clone")
	cmd.Env = u.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: u.user}
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var output []string
	rest := stdout.String()
	for _, b := range blocks {
		text, after, _ := strings.Cut(rest, "\x00")
		code, after, ended := strings.Cut(after, "\x00")
		if !ended {
			t.Fatalf("%sended the shell: %v\n%s%s", b.text, err, text, stderr.String())
		}
		if code != "0" {
			t.Errorf("%sexit code %s\n%s%s", b.text, code, text, stderr.String())
		}
		output, rest = append(output, text), after
	}
	if stderr.Len() > 0 {
		t.Errorf("the examples print errors:\n%s", stderr.String())
	}
	return output
}

// stateDir returns the state directory of the examples. The README creates two
// directories; the other one belongs to the demo.
func (u *reader) stateDir(t *testing.T) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(u.home, "tmp", "tmp.*"))
	if err != nil || len(dirs) != 2 {
		t.Fatalf("directories %v, %v; expected the demo's and the examples'", dirs, err)
	}
	for _, dir := range dirs {
		if !strings.Contains(testenv.ReadFile(t, filepath.Join(dir, "events.jsonl")), "OpenClaw") {
			return dir
		}
	}
	t.Fatal("the demo wrote to both directories")
	return ""
}

// goCache returns Go's build cache.
func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// linkCache creates a build cache for the ordinary user, with links to the files
// in root's, because compiling the standard library takes long. A file that
// cannot be linked is compiled again.
func linkCache(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // another go command has removed it
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if !entry.IsDir() {
			_ = os.Link(path, target)
			return nil
		}
		if rel != "." && len(rel) != 2 { // only the directories 00 to ff hold what is built
			return fs.SkipDir
		}
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		return os.Chown(target, ordinaryUser, ordinaryUser)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// chownTree makes the ordinary user the owner of a directory and its content.
func chownTree(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, ordinaryUser, ordinaryUser)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyTree copies the files that the README's commands need: the Go source, the
// files that it embeds, the streams, and the modules, because tests do not use
// the network.
func copyTree(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		wanted := slices.Contains([]string{".go", ".mod", ".sum", ".pgo", ".json", ".jsonl"}, filepath.Ext(path)) ||
			strings.HasPrefix(rel, "vendor/")
		switch {
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case entry.IsDir() || !wanted:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(rel)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, "vendor")); err == nil {
		return
	}
	vendor := exec.Command("go", "mod", "vendor")
	vendor.Dir = to
	if out, err := vendor.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("go mod vendor: %w\n%s", err, out))
	}
}
