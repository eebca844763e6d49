package journal

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The first example sends an event and shows it.
func TestDocs_first_example(t *testing.T) {
	m := newJournal(t, 54)
	testenv.Tools(t, "bash")
	script := strings.NewReplacer("| "+Identifier+" ingest", "| '"+testenv.Program(t)+"' ingest", "\njournalctl", "\njournalctl --sync\njournalctl").Replace(block(t, "ingest --journal=auto"))
	script = "export TMPDIR='" + t.TempDir() + "'\n" + script // mktemp uses it
	if out := m.run("", "bash", "-ec", script); !strings.HasSuffix(out, ": loading the model\n") {
		t.Errorf("the example prints\n%s", out)
	}
}

// block returns the sh block in docs/journal.md that contains text.
func block(t *testing.T, text string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/journal.md")
	testenv.Must(t, err)
	for _, block := range fences(string(page), "sh") {
		if strings.Contains(block, text) {
			return block
		}
	}
	t.Fatalf("docs/journal.md has no block with %s", text)
	return ""
}

// fences returns the code blocks of a page that are in a language.
func fences(page, lang string) (all []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+lang+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		all = append(all, m[1])
	}
	return all
}

// The command prints nothing if the journal has all events, and prints those that
// were not sent.
func TestDocs_find_missing_events(t *testing.T) {
	m := newJournal(t, 51)
	testenv.Tools(t, "bash", "comm")
	dir := testenv.PlainDir(t)
	line := strings.ReplaceAll(block(t, "comm"), "/run/pika-cloud", dir)
	m.ingest(dir, many(11)+"STATE=ready MESSAGE=\x7f"+strings.Repeat("é\x01", 100_000)+"\n") // large, and not printable
	m.run("", "journalctl", "--sync")
	if out := m.run("", "bash", "-c", line); out != "" {
		t.Errorf("no event is missing, but the command prints\n%s", out)
	}
	m.run(many(1), testenv.Program(t), "ingest", "--state-dir", dir)
	m.ingest(dir, "STATE=failed\n")
	m.run("", "journalctl", "--sync")
	if out := m.run("", "bash", "-c", line); strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, `,"seq":13}`+"\n") {
		t.Errorf("seq 13 is missing, but the command prints\n%s", out)
	}
}

// The command in the docs rebuilds the files.
func TestDocs_rebuild(t *testing.T) {
	m := newJournal(t, 52)
	testenv.Tools(t, "bash")
	guest, host := testenv.TempDir(t), testenv.PlainDir(t)
	m.ingest(guest, exampleRun)
	m.run("", "journalctl", "--sync")
	line := strings.NewReplacer("/run/pika-cloud", guest, Identifier+" rebuild", "'"+testenv.Program(t)+"' rebuild", "dir copy", "dir "+host).Replace(block(t, Identifier+" rebuild"))
	m.run("", "bash", "-c", line)
	sameFiles(t, host, guest)
}

// Each query in the docs finds its entries.
func TestDocs_queries(t *testing.T) {
	m := newJournal(t, 53)
	testenv.Tools(t, "bash", "jq")
	m.ingest(testenv.TempDir(t), exampleRun)
	m.run("", "journalctl", "--sync")
	for line := range strings.Lines(block(t, "journalctl -x")) {
		want := "it failed"
		if strings.Contains(line, ".seq == 2") {
			want = `"kind":"starting"`
		}
		if out := m.run("", "bash", "-c", line); !strings.HasPrefix(line, "#") && !strings.Contains(out, want) {
			t.Errorf("%sprints\n%s", line, out)
		}
	}
}
