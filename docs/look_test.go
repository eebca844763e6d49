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

// lookDir returns a directory with the guest that the samples are of.
func lookDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "guest"), os.DirFS("../testdata/look/guest")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "guest/events.jsonl.seq"), []byte("11\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"events.jsonl", "status.json", "result.json"} { // whatever the umask
		if err := os.Chmod(filepath.Join(dir, "guest", name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "guest"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// console runs the commands of a sample, and returns the sample with what they print.
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
		t.Errorf("%d samples", found)
	}
}

// checkPage compares the page with the fresh one, or writes it with -u.
func checkPage(t *testing.T, page, fresh string) {
	t.Helper()
	switch {
	case page == fresh:
	case *update:
		if err := os.WriteFile(lookPage, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s differs from what is printed; -u writes it:\n%s", lookPage, fresh)
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
	t.Fatal("the command does not end")
	return ""
}

// A real terminal shows the screen in the page. No line is wrapped, however
// wide its characters.
func TestLook_terminal_screen(t *testing.T) {
	dir := lookDir(t)
	screen := terminal(t, dir, "pika-cloud-lifecycle show guest/events.jsonl guest/status.json guest/result.json")
	page := testenv.ReadFile(t, lookPage)
	fresh := regexp.MustCompile("(?ms)^<!-- tmux -->\n```text\n.*?^```$").ReplaceAllStringFunc(page, func(string) string {
		return "<!-- tmux -->\n```text\n" + screen + "```"
	})
	checkPage(t, page, fresh)
	if printed := console(t, testenv.Tool(t, "bash"), dir, "$ pika-cloud-lifecycle show guest"); strings.Count(printed, "\n")-1 != strings.Count(screen, "\n") {
		t.Errorf("the terminal has wrapped lines:\n%s", screen)
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

// A terminal shows a mark below the column where the line was rejected.
func TestTerminal_rejected_line(t *testing.T) {
	screen := terminal(t, t.TempDir(), `printf 'MESSAGE="日本 x" STATE=redy\n' | pika-cloud-lifecycle ingest --state-dir run`)
	if !strings.Contains(screen, "\n    MESSAGE=\"日本 x\" STATE=redy\n                           ^\n") {
		t.Error(screen)
	}
}
