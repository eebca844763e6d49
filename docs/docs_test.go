// Package docs_test compares the documentation with the program: it runs the
// examples, compares messages and flags, and checks links.
package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

const program = "pika-cloud-lifecycle"

func TestMain(m *testing.M) { os.Exit(testenv.Main{M: m}.Run()) }

// binDir returns the directory of the built program.
func binDir(t *testing.T) string { return filepath.Dir(testenv.Program(t)) }

// A command is run with the program on its PATH.
type command struct {
	dir   string // where; a new directory if empty
	state string // the state directory; a new one if empty
	input string
}

// run runs argv, with a time limit. It returns the exit code -1 for a command
// that did not exit.
func (c command) run(t *testing.T, argv ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if cmd.Dir = c.dir; c.dir == "" {
		cmd.Dir = t.TempDir()
	}
	if c.state == "" {
		c.state = t.TempDir()
	}
	cmd.Env = append(os.Environ(), "PIKA_LIFECYCLE_DIR="+c.state, "TMPDIR="+t.TempDir(), // examples use mktemp
		"PATH="+binDir(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.input), &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// fenced returns the code blocks of a page whose info string is one of langs.
func fenced(t *testing.T, page string, langs ...string) (blocks []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(testenv.ReadFile(t, page), -1) {
		if slices.Contains(langs, m[1]) {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// An artifact has the keys of all files that the tests check.
type artifact struct {
	State, Kind, Status, Message string
	ExitCode                     *int `json:"exit_code"`
	Details                      map[string]any
	Seq                          int
}

// read reads a file that has one artifact, or one artifact per line.
func read(t *testing.T, state, name string) (all []artifact) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(testenv.ReadFile(t, filepath.Join(state, name))))
	for d.More() {
		var a artifact
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// readOne reads a file that has one artifact.
func readOne(t *testing.T, state, name string) artifact {
	t.Helper()
	all := read(t, state, name)
	if len(all) != 1 {
		t.Fatalf("%s has %d artifacts; expected 1", name, len(all))
	}
	return all[0]
}

func kinds(events []artifact) (all []string) {
	for _, e := range events {
		all = append(all, e.Kind)
	}
	return all
}

// The shell examples of these pages exit with 0 and print nothing on stderr.
// Those of one page run in order and share a state directory.
func TestPages_shell_examples(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	for page, want := range map[string][]string{
		"run.md":    {"starting", "ready", "completed", "starting", "ready", "completed", "starting", "ready", "completed", "starting", "failed"},
		"send.md":   {"starting", "ready", "completed"},
		"wait.md":   {"starting", "completed", "starting", "completed"},
		"ingest.md": {"starting", "completed", "starting", "ready", "completed"},
	} {
		t.Run(page, func(t *testing.T) {
			state := t.TempDir()
			for _, block := range fenced(t, page, "sh", "bash") {
				if strings.Contains(block, "python3") {
					testenv.Tool(t, "python3")
				}
				if _, stderr, code := (command{state: state}).run(t, bash, "-ec", block); code != 0 || stderr != "" {
					t.Errorf("%sexit code %d\n%s", block, code, stderr)
				}
			}
			if got := kinds(read(t, state, "events.jsonl")); !slices.Equal(got, want) {
				t.Errorf("events %v; expected %v", got, want)
			}
		})
	}
}

// ingest rejects a regular file at the path of the FIFO, and does not change it.
func TestIngestPage_FIFO_path_is_file(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	block := oneBlock(t, "ingest.md", "sh")
	plain := filepath.Join(testenv.PlainDir(t), "plain")
	script := strings.Replace(block, `fifo=$(mktemp -u)`, "fifo="+plain, 1)
	script = strings.Replace(script, `mkfifo -m 600 "$fifo"`, `echo other data >"$fifo"`, 1)
	script, _, _ = strings.Cut(script, "\necho STATE") // the rest writes to the file
	if !strings.Contains(script, plain) || !strings.Contains(script, "other data") || strings.Contains(script, "kill") {
		t.Fatalf("the example has changed: %s", block)
	}
	_, stderr, code := command{}.run(t, bash, "-c", script+"\nwait $ingest")
	if code != 1 || !strings.Contains(stderr, "FIFO") || testenv.ReadFile(t, plain) != "other data\n" {
		t.Errorf("exit code %d; expected 1; the file contains %q\n%s", code, testenv.ReadFile(t, plain), stderr)
	}
}

// What ingest.md describes about a FIFO that is opened for reading and writing.
func TestIngestPage_open_read_write(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	testenv.Tools(t, "mkfifo", "head", "timeout")
	for name, c := range map[string]struct {
		script string
		events []string
	}{
		"read later":    {`echo STATE=ready >&3; ingest; exec 3>&-; wait`, []string{"ready"}},
		"lost at close": {`echo STATE=booted >&3; exec 3>&-; exec 3<>fifo; echo STATE=ready >&3; ingest; exec 3>&-; wait`, []string{"ready"}},
		"full FIFO": {`head -c 65536 /dev/zero >&3; timeout 0.2 head -c 1 /dev/zero >&3; [ $? = 124 ]; code=$?
			head -c 65536 <&3 >/dev/null; echo STATE=ready >&3; ingest; exec 3>&-; wait; exit $code`, []string{"ready"}},
		"no error": {`echo STATE=ready >&3; ingest; wait; echo STATE=completed >&3`, []string{"ready"}},
		"send":     {`exec 3>&-; pika-cloud-lifecycle send --to fifo STATE=ready; [ $? = 1 ]; code=$?; exec 3<>fifo; echo STATE=booted >&3; ingest; wait; exit $code`, []string{"booted"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			script := `ingest() { echo KIND=failed >&3; pika-cloud-lifecycle ingest --fifo fifo --grace 0s 3>&- & until grep -qs failed "$PIKA_LIFECYCLE_DIR/events.jsonl"; do sleep 0.01; done; kill $!; }
				mkfifo fifo; exec 3<>fifo; ` + c.script
			_, stderr, code := command{state: state}.run(t, bash, "-c", script)
			if code != 0 {
				t.Errorf("exit code %d\n%s", code, stderr)
			}
			if got := kinds(read(t, state, "events.jsonl")); !slices.Equal(got, append(c.events, "failed")) {
				t.Errorf("events %v; expected %v", got, c.events)
			}
		})
	}
}

func TestReadme_bash_child_fails(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	state := t.TempDir()
	stdout, stderr, code := command{state: state}.run(t, bash, "-c", oneBlock(t, "../README.md", "bash"))
	if code != 0 || stdout != "working\n" || stderr != "" {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	events, result, status := read(t, state, "events.jsonl"), readOne(t, state, "result.json"), readOne(t, state, "status.json")
	if got := kinds(events); !slices.Equal(got, []string{"booted", "starting", "failed"}) {
		t.Fatalf("events %v", got)
	}
	if e := events[1]; e.Message != "it's about to start" || e.Details["attempt"] != 1.0 {
		t.Errorf("event %+v", e)
	}
	if result.Status != "failed" || *result.ExitCode != 7 || result.Message != "exited with 7" || result.Seq != 3 {
		t.Errorf("result %+v", result)
	}
	if status.State != "failed" || status.Seq != 3 {
		t.Errorf("status %+v", status)
	}
}

// The example also works with a background job and a plain wait. Outside the subshell, this
// wait would wait for ingest, which waits for the end of its input.
func TestReadme_bash_wait(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	testenv.Tool(t, "timeout")
	script := oneBlock(t, "../README.md", "bash")
	inside := strings.Replace(script, "\tcode=$?\n", "\tcode=$?\n\tsleep 0.1 3>&- &\n\twait\n", 1)
	outside := strings.Replace(script, "\nexec 3>&-\n", "\nsleep 0.1 3>&- &\nwait\nexec 3>&-\n", 1)
	outside = `case $BASH_VERSION in 5.[012].*) ;; *) exit 124; esac` + "\n" + outside // others do not wait for it
	if inside == script || !strings.Contains(outside, "\nwait\n") {
		t.Fatal("the script has changed")
	}
	state := t.TempDir()
	if stdout, stderr, code := (command{state: state}).run(t, bash, "-c", inside); code != 0 || stdout != "working\n" || stderr != "" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if got := kinds(read(t, state, "events.jsonl")); !slices.Equal(got, []string{"booted", "starting", "failed"}) {
		t.Errorf("events %v", got)
	}
	if _, _, code := (command{}).run(t, "timeout", "1", bash, "-c", outside); code != 124 {
		t.Errorf("with wait outside the subshell: exit code %d; expected a timeout", code)
	}
}

func TestReadme_bash_ingest_ended(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	script := oneBlock(t, "../README.md", "bash")
	// The replacement of ingest reads a line before it exits: if it ended before the
	// script continues, bash might not know its exit code.
	replaced := strings.Replace(script, "exec "+program+" ingest --require-result", "read -r; exit 7", 1)
	replaced = strings.Replace(replaced, "\treport ", "\twhile printf '\\n' >&3; do :; done 2>/dev/null # until it has ended\n\treport ", 1)
	if strings.Count(replaced, "\n") != strings.Count(script, "\n")+1 || strings.Contains(replaced, program) {
		t.Fatal("the script does not start ingest as expected")
	}
	if stdout, stderr, code := (command{}).run(t, bash, "-c", replaced); code != 7 || stdout != "working\n" || stderr != "" {
		t.Errorf("exit %d; expected 7, the exit code of ingest\n%s%s", code, stdout, stderr)
	}
}

func oneBlock(t *testing.T, page, lang string) string {
	t.Helper()
	blocks := fenced(t, page, lang)
	if len(blocks) != 1 {
		t.Fatalf("%s has %d blocks of %s; expected 1", page, len(blocks), lang)
	}
	return blocks[0]
}

func TestReadme_python(t *testing.T) {
	python := testenv.Tool(t, "python3")
	script := oneBlock(t, "../README.md", "python")
	failing := strings.ReplaceAll(script, `["true"]`, `["sh", "-c", "exit 7"]`)
	if failing == script {
		t.Fatal("the script does not run true")
	}
	for _, c := range []struct {
		script, status, message string
		code                    int
	}{
		{script, "completed", "the job passed", 0},
		{failing, "failed", "the job exited with 7", 7},
	} {
		state := t.TempDir()
		if _, stderr, code := (command{state: state}).run(t, python, "-c", c.script); code != 0 || stderr != "" {
			t.Errorf("exit %d\n%s", code, stderr)
		}
		result := readOne(t, state, "result.json")
		if result.Status != c.status || *result.ExitCode != c.code || result.Message != c.message {
			t.Errorf("result %+v; expected %+v", result, c)
		}
		if got := kinds(read(t, state, "events.jsonl")); !slices.Equal(got, []string{"starting", c.status}) {
			t.Errorf("events %v", got)
		}
	}
}

// The first Python block of ingest.md quotes a message with json.dumps. The
// second one quotes the same message with shlex.quote, which forges a result.
func TestIngestPage_python_quoting(t *testing.T) {
	python := testenv.Tool(t, "python3")
	blocks := fenced(t, "ingest.md", "python")
	if len(blocks) != 2 {
		t.Fatalf("ingest.md has %d blocks of python; expected 2", len(blocks))
	}
	for i, want := range []struct {
		status, message string
		code            int
	}{
		{"failed", "tests failed\nSTATE=completed\n", 0},
		{"completed", "completed", 3},
	} {
		input, _, _ := command{}.run(t, python, "-c", blocks[i])
		state := t.TempDir()
		if _, stderr, code := (command{state: state, input: input}).run(t, testenv.Program(t), "ingest"); code != want.code {
			t.Errorf("%sexit code %d; expected %d\n%s", blocks[i], code, want.code, stderr)
		}
		if r := readOne(t, state, "result.json"); r.Status != want.status || r.Message != want.message {
			t.Errorf("%sresult %+v; expected %+v", blocks[i], r, want)
		}
	}
}

func TestProtocol_both_syntaxes(t *testing.T) {
	var logs [2][]artifact
	for i, lang := range []string{"jsonl", "sh"} {
		state := t.TempDir()
		input := fenced(t, "protocol.md", lang)[0]
		if _, stderr, code := (command{state: state, input: input}).run(t, testenv.Program(t), "ingest"); code != 0 {
			t.Errorf("exit %d\n%s", code, stderr)
		}
		logs[i] = append(read(t, state, "events.jsonl"), readOne(t, state, "result.json"))
	}
	first, _ := json.Marshal(logs[0])
	if second, _ := json.Marshal(logs[1]); string(first) != string(second) || len(logs[0]) != 3 {
		t.Errorf("%s\n%s", first, second)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[a-z0-9-]+)?\)`)

func TestLinks(t *testing.T) {
	found := 0
	for _, pattern := range []string{"../*.md", "*.md", "decisions/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s finds nothing: %v", pattern, err)
		}
		for _, page := range pages {
			for _, m := range link.FindAllStringSubmatch(testenv.ReadFile(t, page), -1) {
				found++
				to := filepath.Join(filepath.Dir(page), m[1])
				if _, err := os.Stat(to); err != nil {
					t.Errorf("%s: %v", page, err)
				} else if m[2] != "" && !slices.Contains(anchors(testenv.ReadFile(t, to)), m[2]) {
					t.Errorf("%s: %s has no heading %s", page, to, m[2])
				}
			}
		}
	}
	if found == 0 {
		t.Error("the docs have no links")
	}
}

// anchors returns the anchors that a page's headings have on GitHub.
func anchors(page string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, "#"+strings.ReplaceAll(text, " ", "-"))
	}
	return all
}

func TestDecisions(t *testing.T) {
	pages, err := filepath.Glob("decisions/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	var all strings.Builder
	for i, page := range pages {
		text := testenv.ReadFile(t, page)
		all.WriteString(text)
		if !strings.HasPrefix(filepath.Base(page), fmt.Sprintf("%04d-", i+1)) || !strings.HasPrefix(text, fmt.Sprintf("# %d. ", i+1)) {
			t.Errorf("%s: expected the number %d, in its name and its title", page, i+1)
		}
		for _, part := range []string{"\n**Context.** ", "\n**Decision.** ", "\n**Cost.** "} {
			if strings.Count(text, part) != 1 {
				t.Errorf("%s: expected one %s", page, strings.TrimSpace(part))
			}
		}
		if lines := strings.Count(text, "\n"); lines > 40 {
			t.Errorf("%s has %d lines; expected a page", page, lines)
		}
	}
	imported := regexp.MustCompile(`"((?:github\.com|golang\.org)/[^"]+)"`)
	for _, path := range imports(t, imported) {
		if !strings.Contains(all.String(), path) {
			t.Errorf("no decision names %s", path)
		}
	}
}

// imports returns the packages of other modules that the source imports.
func imports(t *testing.T, pattern *regexp.Regexp) (all []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == "vendor" {
			return fs.SkipDir
		}
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range tree.Imports {
			if m := pattern.FindStringSubmatch(spec.Path.Value); m != nil && !strings.HasPrefix(m[1], "github.com/sledtools/") {
				all = append(all, m[1])
			}
		}
		return nil
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("no imports: %v", err)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
