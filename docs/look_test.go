package docs_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

var update = flag.Bool("u", false, "rewrite the samples of look.md")

const lookPage = "look.md"

// lookDir returns a directory with the guest that the samples show.
func lookDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "guest"), os.DirFS("../testdata/look/guest")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "guest/events.jsonl.seq"), []byte("11\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"events.jsonl", "status.json", "result.json"} { // independent of the umask
		if err := os.Chmod(filepath.Join(dir, "guest", name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "guest"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// console runs the commands of a sample, and returns the sample with their output.
func console(t *testing.T, bash, dir, sample string) string {
	t.Helper()
	var all strings.Builder
	for _, m := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(sample, -1) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, bash, "-c", "umask 022; "+m[1])
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TZ=UTC", "COLUMNS=80", "PATH="+binDir(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, _ := cmd.CombinedOutput()
		all.WriteString("$ " + m[1] + "\n" + string(out))
	}
	return all.String()
}

func TestLook_samples(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	testenv.Tool(t, "jq")
	dir := lookDir(t)
	page := testenv.ReadFile(t, lookPage)
	found := 0
	fresh := regexp.MustCompile("(?ms)^```console\n(.*?)^```$").ReplaceAllStringFunc(page, func(block string) string {
		found++
		sample := strings.TrimSuffix(strings.TrimPrefix(block, "```console\n"), "```")
		return "```console\n" + console(t, bash, dir, sample) + "```"
	})
	checkPage(t, page, fresh)
	if found < 6 {
		t.Errorf("the page has %d samples; expected 6 or more", found)
	}
}

// The first example of the page works as it is.
func TestLook_first_example(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	dir := t.TempDir()
	stdout, stderr, code := command{dir: dir}.run(t, bash, "-c", fenced(t, lookPage, "sh")[0])
	if code != 0 || stderr != "" || !strings.Contains(stdout, "\nresult: failed, exit code 7, at ") ||
		!strings.Contains(stdout, ": valid; 2 events in 1 boot, seq 1 to 2; state failed; result failed\n") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if picture := testenv.ReadFile(t, filepath.Join(dir, "guest.svg")); !strings.Contains(picture, "result: failed, exit code 7, at ") {
		t.Errorf("guest.svg:\n%s", picture)
	}
}

// The sample of an ordinary user is the output of verify.
func TestLook_ordinary_user(t *testing.T) {
	testenv.Root(t)
	bash, setpriv := testenv.Tool(t, "bash"), testenv.Tool(t, "setpriv")
	dir := lookDir(t)
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testenv.OpenToAll(t, dir, binDir(t))
	stdout, stderr, code := command{dir: dir}.run(t, bash, "-c", setpriv+" --reuid 1000 --regid 1000 --clear-groups pika-cloud-lifecycle verify guest 2>&1")
	if code != 3 || stderr != "" || !strings.Contains(testenv.ReadFile(t, lookPage), "```text\n"+stdout+"```") {
		t.Errorf("exit %d; the page does not have\n%s%s", code, stdout, stderr)
	}
}

// checkPage compares the page with one that has fresh samples. With -u, it writes the
// fresh page.
func checkPage(t *testing.T, page, fresh string) {
	t.Helper()
	switch {
	case page == fresh:
	case *update:
		if err := os.WriteFile(lookPage, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s differs from the output of the commands; -u writes it:\n%s", lookPage, fresh)
	}
}

// terminal runs a command in a real terminal and returns its screen. The tmux
// flag -e keeps the colours.
func terminal(t *testing.T, dir, command string, flags ...string) string {
	t.Helper()
	tmux := testenv.Tool(t, "tmux")
	socket := filepath.Join(testenv.PlainDir(t), "tmux")
	run := func(args ...string) string {
		cmd := exec.Command(tmux, append([]string{"-u", "-S", socket, "-f", "/dev/null"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8", "PATH="+binDir(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("tmux %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("new-session", "-d", "-x", "80", "-y", "40", "env -u COLUMNS "+command+"; printf END; exec sleep 60")
	defer run("kill-server")
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if screen := run("capture-pane", "-p"); strings.Contains(screen, "END") {
			screen, _, _ = strings.Cut(run(append([]string{"capture-pane", "-p"}, flags...)...), "END")
			return screen
		}
	}
	t.Fatal("the command did not end")
	return ""
}

// A real terminal of 80 columns shows the same as a pipe with COLUMNS=80. It wraps no
// line, even with wide characters.
func TestLook_terminal_screen(t *testing.T) {
	dir := lookDir(t)
	const show = "pika-cloud-lifecycle show guest/events.jsonl guest/status.json guest/result.json"
	screen := terminal(t, dir, show)
	if piped := console(t, testenv.Tool(t, "bash"), dir, "$ "+show); piped != "$ "+show+"\n"+screen {
		t.Errorf("the terminal shows\n%sa pipe has\n%s", screen, piped)
	}
}

func TestTerminal_colours(t *testing.T) {
	dir := lookDir(t)
	if screen := terminal(t, dir, "pika-cloud-lifecycle show guest", "-e"); !strings.Contains(screen, "\x1b[31mfailed") || !strings.Contains(screen, "\x1b[32mready") {
		t.Errorf("%q", screen)
	}
	for _, without := range []string{"NO_COLOR=1", "TERM=dumb"} {
		if screen := terminal(t, dir, "env "+without+" pika-cloud-lifecycle show guest", "-e"); strings.Contains(screen, "\x1b[") {
			t.Errorf("%s: %q", without, screen)
		}
	}
}

// A terminal shows a mark below the column at which a line is invalid.
func TestTerminal_rejected_line(t *testing.T) {
	screen := terminal(t, t.TempDir(), `printf 'MESSAGE="日本 x" STATE=redy\n' | pika-cloud-lifecycle ingest --state-dir run`)
	if !strings.Contains(screen, "\n    MESSAGE=\"日本 x\" STATE=redy\n                           ^\n") {
		t.Error(screen)
	}
}
