package journal

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// block returns the block of sh in docs/journal.md that contains text.
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

// fences returns the code blocks of a page in a language.
func fences(page, lang string) (all []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+lang+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestDocsReconcile(t *testing.T) {
	m := newJournal(t, 51)
	testenv.Tools(t, "bash", "jq", "comm")
	dir := testenv.PlainDir(t)
	line := strings.ReplaceAll(block(t, "comm"), "/run/pika-cloud", dir)
	m.ingest(dir, many(12))
	m.run("", "journalctl", "--sync")
	if out := m.run("", "bash", "-c", line); out != "" {
		t.Errorf("nothing is missing, but\n%s", out)
	}
	m.run(many(1), testenv.Program(t), "ingest", "--state-dir", dir)
	m.ingest(dir, "STATE=failed\n")
	m.run("", "journalctl", "--sync")
	if out := m.run("", "bash", "-c", line); out != m.boot+" 13\n" {
		t.Errorf("13 is missing, but\n%s", out)
	}
}

func TestDocsRebuild(t *testing.T) {
	m := newJournal(t, 52)
	testenv.Tools(t, "bash")
	guest, host := testenv.TempDir(t), testenv.PlainDir(t)
	m.ingest(guest, aRun)
	m.run("", "journalctl", "--sync")
	line := strings.NewReplacer(Identifier+" rebuild", "'"+testenv.Program(t)+"' rebuild", "dir copy", "dir "+host).Replace(block(t, Identifier+" rebuild"))
	m.run("", "bash", "-c", line)
	same(t, host, guest)
}

// The queries in the docs are valid and find the entries.
func TestDocsQueries(t *testing.T) {
	m := newJournal(t, 53)
	testenv.Tools(t, "bash")
	m.ingest(testenv.TempDir(t), aRun)
	m.run("", "journalctl", "--sync")
	for line := range strings.Lines(block(t, "journalctl -x")) {
		want := "it failed"
		if strings.Contains(line, "PIKA_SEQ=2") {
			want = "PIKA_KIND=starting"
		}
		if out := m.run("", "bash", "-c", line); !strings.HasPrefix(line, "#") && !strings.Contains(out, want) {
			t.Errorf("%s%s", line, out)
		}
	}
}
