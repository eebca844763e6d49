// Package incus_test runs the programs of the guest images, with real bash, real Python
// and the real program.
package incus_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// stepLimit is the time limit of a test for each step. It is much longer than the
// busiest machine needs, because only a defect reaches it.
const stepLimit = time.Minute

func TestMain(m *testing.M) {
	// A shell's & and nohup(1) start a command with a signal ignored. The programs
	// that the tests start would inherit that, unless the signal is caught here.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	os.Exit(testenv.Main{M: m}.Run())
}

// A pipe is a FIFO that the test keeps open in both directions, so that opening it
// never blocks.
type pipe struct {
	t    *testing.T
	path string
	file *os.File
	in   *bufio.Reader
}

func newPipe(t *testing.T, path string) *pipe {
	t.Helper()
	if err := unix.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	// Whatever the umask, an unprivileged job must be able to open it.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &pipe{t, path, file, bufio.NewReader(file)}
}

func (p *pipe) print(line string) {
	p.t.Helper()
	if _, err := p.file.WriteString(line + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// line waits for a line and returns its words.
func (p *pipe) line() []string {
	p.t.Helper()
	if err := p.file.SetReadDeadline(time.Now().Add(stepLimit)); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.in.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s: %v, after %q", filepath.Base(p.path), err, line)
	}
	return strings.Fields(line)
}

// A guest is a running program of a guest image.
type guest struct {
	t    *testing.T
	temp string
	dir  string // the state directory
	env  []string

	news, orders, left *pipe // see testdata/service.sh
	ask                *pipe // of a probe
	ingestNews         *pipe // see testdata/ingest.sh
	ingest             process
	ingestArgs         []string

	user   int      // user ID of the program; root by default
	groups []uint32 // additional groups of root; needs root
	stdout *os.File // of the program; a file by default

	cmd     *exec.Cmd
	release context.CancelFunc
}

// newGuest prepares a guest with additional environment variables.
func newGuest(t *testing.T, env ...string) *guest {
	t.Helper()
	temp := t.TempDir()
	g := &guest{t: t, temp: temp, dir: filepath.Join(temp, "state")}
	g.news = newPipe(t, filepath.Join(temp, "news"))
	g.orders = newPipe(t, filepath.Join(temp, "orders"))
	g.left = newPipe(t, filepath.Join(temp, "left"))
	g.ask = newPipe(t, filepath.Join(temp, "ask"))
	g.ingestNews = newPipe(t, filepath.Join(temp, "ingest-news"))
	g.install("pika-cloud-lifecycle", "testdata/ingest.sh")
	g.env = append(os.Environ(), "PATH="+g.path("bin")+":"+os.Getenv("PATH"),
		"PIKA_LIFECYCLE_DIR="+g.dir, "INGEST="+testenv.Program(g.t), "INGEST_NEWS="+g.ingestNews.path,
		"NEWS="+g.news.path, "ORDERS="+g.orders.path, "LEFT="+g.left.path, "ASK="+g.ask.path,
		"AGENT_PROBE=test -e '"+g.path("healthy")+"'", "AGENT_PAUSE=0.01")
	g.env = append(g.env, env...)
	return g
}

func (g *guest) path(name string) string { return filepath.Join(g.temp, name) }

// install puts a copy of file on the guest's PATH, as name.
func (g *guest) install(name, file string) {
	g.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.MkdirAll(g.path("bin"), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.path("bin"), name), text, 0o755); err != nil {
		g.t.Fatal(err)
	}
}

// start starts a command in a new process group. Its output goes to files, because
// processes that it leaves would keep a pipe open.
func (g *guest) start(name string, args ...string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepLimit)
	g.release = cancel
	g.cmd = exec.CommandContext(ctx, name, args...)
	g.cmd.Env = g.env
	if g.stdout == nil {
		g.stdout = g.create("stdout")
	}
	g.cmd.Stdout, g.cmd.Stderr = g.stdout, g.create("stderr")
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if g.user != os.Geteuid() {
		setUser(g.cmd.SysProcAttr, g.user)
	}
	if g.groups != nil {
		g.cmd.SysProcAttr.Credential = &syscall.Credential{Groups: g.groups}
	}
	if err := g.cmd.Start(); err != nil {
		if g.user != os.Geteuid() {
			testenv.Missing(g.t, "a user namespace ("+err.Error()+")")
		}
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL) })
}

// setUser makes a process start in a new user namespace, in which it runs as another
// user. In that namespace, this user owns the files of the test.
func setUser(attr *syscall.SysProcAttr, user int) {
	attr.Cloneflags = syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getegid(), Size: 1}}
}

func (g *guest) create(name string) *os.File {
	g.t.Helper()
	file, err := os.Create(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { file.Close() })
	return file
}

// awaitIngest waits until ingest runs.
func (g *guest) awaitIngest() {
	g.t.Helper()
	words := g.ingestNews.line()
	g.ingest, g.ingestArgs = g.process(words[0]), words[1:]
}

// acknowledged waits until ingest has acknowledged a number of lines.
func (g *guest) acknowledged(lines int) {
	g.t.Helper()
	for {
		if n, err := strconv.Atoi(g.ingestNews.line()[0]); err != nil {
			g.t.Fatal(err)
		} else if n >= lines {
			return
		}
	}
}

// orderExit makes the service, or the job, exit with a code.
func (g *guest) orderExit(code int) {
	g.t.Helper()
	g.orders.print(strconv.Itoa(code))
}

func (g *guest) touch(name string) {
	g.t.Helper()
	if err := os.WriteFile(g.path(name), nil, 0o644); err != nil {
		g.t.Fatal(err)
	}
}

// wantExit waits for the program and checks its exit code.
func (g *guest) wantExit(code int) {
	g.t.Helper()
	err := g.cmd.Wait()
	g.release()
	if got := g.cmd.ProcessState.ExitCode(); got != code {
		g.t.Fatalf("exit code %d; expected %d (%v); stderr:\n%s", got, code, err, g.text("stderr"))
	}
}

func (g *guest) text(name string) string {
	g.t.Helper()
	text, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

// wantStderr checks that stderr contains a text exactly once.
func (g *guest) wantStderr(text string) {
	g.t.Helper()
	if stderr := g.text("stderr"); strings.Count(stderr, text) != 1 {
		g.t.Errorf("expected %q once on stderr:\n%s", text, stderr)
	}
}

// A process is a handle of a process that is not a child of the test.
type process struct {
	t  *testing.T
	id int
	fd int
}

func (g *guest) process(pid string) process {
	g.t.Helper()
	id, err := strconv.Atoi(pid)
	if err != nil {
		g.t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(id, 0)
	if err != nil {
		g.t.Fatalf("process %d: %v", id, err)
	}
	g.t.Cleanup(func() { unix.Close(fd) })
	return process{g.t, id, fd}
}

func (p process) kill(s syscall.Signal) {
	p.t.Helper()
	if err := unix.PidfdSendSignal(p.fd, s, nil, 0); err != nil {
		p.t.Fatal(err)
	}
}

// ended reports whether the process ends within a time. A zombie has ended.
func (p process) ended(within time.Duration) bool {
	p.t.Helper()
	for until := time.Now().Add(within); ; {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(until)).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return n > 0
	}
}

func (p process) wantEnded() {
	p.t.Helper()
	if !p.ended(stepLimit) {
		p.t.Fatalf("process %d has not ended", p.id)
	}
}

func (p process) wantAlive() {
	p.t.Helper()
	if p.ended(0) {
		p.t.Fatalf("process %d has ended; expected it to run", p.id)
	}
}

// A report is the content of an artifact, without the values that differ from run to run.
type report struct {
	State    string // kind of an event, outcome of a result
	Message  string
	ExitCode any
	Details  any
}

// contents is the content of all artifacts of a state directory.
type contents struct {
	Events []report
	Status report
	Result *report
}

// wantContents checks the artifacts of the guest.
func (g *guest) wantContents(want contents) {
	g.t.Helper()
	if got := readContents(g.t, g.dir); !reflect.DeepEqual(got, want) {
		g.t.Errorf("the artifacts are\n%s\nexpected\n%s\nstderr:\n%s", pretty(got), pretty(want), g.text("stderr"))
	}
}

// wantEnd checks the last event, the status and the result, and returns the kinds of
// the earlier events.
func (g *guest) wantEnd(want report) (before []string) {
	g.t.Helper()
	got := readContents(g.t, g.dir)
	last := len(got.Events) - 1
	end := got.Result
	if want.State == "stopped" { // not a result
		if end != nil {
			g.t.Errorf("a stopped guest has a result: %s", pretty(end))
		}
		end = &got.Status
	}
	if end == nil {
		g.t.Fatalf("no result; the artifacts are\n%s", pretty(got))
	}
	event := want
	event.ExitCode = nil // only a result has one
	for _, pair := range [][2]report{{got.Events[last], event}, {got.Status, event}, {*end, want}} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			g.t.Errorf("the artifact is\n%s\nexpected\n%s", pretty(pair[0]), pretty(pair[1]))
		}
	}
	for _, e := range got.Events[:last] {
		before = append(before, e.State)
	}
	return before
}

func pretty(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// An object is a JSON object of an artifact.
type object map[string]any

func (o object) report(state string) report {
	a := report{ExitCode: o["exit_code"], Details: o["details"]}
	a.State, _ = o[state].(string)
	a.Message, _ = o["message"].(string)
	return a
}

// readContents reads the artifacts of a directory.
func readContents(t *testing.T, dir string) (s contents) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		s.Events = append(s.Events, decode(t, line).report("kind"))
	}
	status, err := os.ReadFile(filepath.Join(dir, "status.json"))
	if err != nil {
		t.Fatal(err)
	}
	s.Status = decode(t, status).report("state")
	result, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s
	} else if err != nil {
		t.Fatal(err)
	}
	a := decode(t, result).report("status")
	s.Result = &a
	return s
}

func decode(t *testing.T, text []byte) (o object) {
	t.Helper()
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

// recordedRuns is the number of runs in the file.
const recordedRuns = 6

// A recordedRun has the calls of the one-shot command in a run of the earlier guest
// program.
type recordedRun struct {
	Name  string
	Calls [][]string
}

// recorded returns the recorded runs whose name has the prefix.
func recorded(t *testing.T, prefix string, count int) (runs []recordedRun) {
	t.Helper()
	text, err := os.ReadFile("../../testdata/golden/callers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	for line := range bytes.Lines(text) {
		var run recordedRun
		if err := json.Unmarshal(line, &run); err != nil {
			t.Fatal(err)
		}
		all++
		if strings.HasPrefix(run.Name, prefix) {
			runs = append(runs, run)
		}
	}
	if all != recordedRuns || len(runs) != count {
		t.Fatalf("%d recorded runs, %d of them %s…; expected %d and %d", all, len(runs), prefix, recordedRuns, count)
	}
	return runs
}

// contents returns the artifacts of a recorded run. A result without details now gets
// those of its transition.
func (r recordedRun) contents(t *testing.T) (s contents) {
	t.Helper()
	for _, call := range r.Calls {
		flags := object{}
		for i := 1; i+1 < len(call); i += 2 {
			flags[strings.ReplaceAll(call[i][2:], "-", "_")] = call[i+1]
		}
		flags.parse(t, "details_json", "details")
		flags.parse(t, "exit_code", "exit_code")
		switch call[0] {
		case "event":
			s.Events = append(s.Events, flags.report("kind"))
		case "status":
			s.Status = flags.report("state")
		case "result":
			a := flags.report("status")
			if a.Details == nil {
				a.Details = s.Status.Details
			}
			s.Result = &a
		}
	}
	return s
}

// parse replaces the text of a flag by its JSON value.
func (o object) parse(t *testing.T, flag, key string) {
	t.Helper()
	text, ok := o[flag].(string)
	if !ok {
		return
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	o[key] = value
}

// wantGraceOver checks that the grace period of ingest is longer than the time
// that its caller may need to stop the service or job.
func (g *guest) wantGraceOver(stop time.Duration) {
	g.t.Helper()
	for i, arg := range g.ingestArgs {
		if arg != "--grace" {
			continue
		}
		if grace, err := time.ParseDuration(g.ingestArgs[i+1]); err != nil || grace <= stop {
			g.t.Errorf("the grace period of ingest is %v (%v); expected more than %v", grace, err, stop)
		}
		return
	}
	g.t.Errorf("the arguments of ingest are %q; expected --grace", g.ingestArgs)
}
