package journal

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// sentFields is the number of fields that a Mirror sends. They are the first ones
// of the list, and each entry has some of them.
const sentFields = fieldUID

const catalog = "../../docs/catalog/" + Identifier + ".catalog"

// messageIDs returns all MESSAGE_IDs in order.
func messageIDs() []string {
	ids := []string{rejectID, missedID}
	for _, state := range artifact.States() {
		ids = append(ids, eventIDs[state])
	}
	for _, outcome := range artifact.Outcomes() {
		ids = append(ids, resultIDs[outcome])
	}
	slices.Sort(ids)
	return ids
}

// matches returns all matches of the first group of pattern in a file, sorted.
func matches(t *testing.T, pattern, path string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	testenv.Must(t, err)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return all
}

// The catalog and docs/journal.md list each MESSAGE_ID once, and no others.
func TestMessageIDs_documented(t *testing.T) {
	want := messageIDs()
	if len(slices.Compact(slices.Clone(want))) != len(want) {
		t.Error("two MESSAGE_IDs are the same")
	}
	if got := matches(t, `(?m)^-- ([0-9a-f]{32})$`, catalog); !slices.Equal(got, want) {
		t.Errorf("the catalog has\n%v, want\n%v", got, want)
	}
	const page = "../../docs/journal.md"
	if got := matches(t, "(?m)^\\| .* \\| `([0-9a-f]{32})` \\|$", page); !slices.Equal(got, want) {
		t.Errorf("%s has\n%v, want\n%v", page, got, want)
	}
	for state, id := range eventIDs {
		if got := matches(t, "event `"+string(state)+"` \\| `([0-9a-f]{32})`", page); !slices.Equal(got, []string{id}) {
			t.Errorf("%s has %v for %s, want %s", page, got, state, id)
		}
	}
}

// docs/journal.md lists each field that a Mirror sends, and no others.
func TestFields_documented(t *testing.T) {
	want := slices.Sorted(slices.Values(fieldNames[:sentFields]))
	if got := matches(t, "(?m)^\\| `([A-Z_]+)` \\|", "../../docs/journal.md"); !slices.Equal(got, want) {
		t.Errorf("docs/journal.md lists\n%v, want\n%v", got, want)
	}
}

// journalctl compiles the catalog, shows its text with each entry, and replaces the
// field names in it.
func TestCatalog_shown_by_journalctl(t *testing.T) {
	m := newJournal(t, 31)
	text, err := os.ReadFile(catalog)
	testenv.Must(t, err)
	install := `mount -t tmpfs t /usr/lib/systemd/catalog && mount -t tmpfs t /var/lib/systemd/catalog &&
		cat >/usr/lib/systemd/catalog/ours.catalog && journalctl --update-catalog && journalctl --list-catalog`
	list := m.run(string(text), "sh", "-c", install)
	if n := strings.Count(list, Identifier); n != 14 {
		t.Fatalf("the catalog has %d entries, want 14:\n%s", n, list)
	}
	dir := testenv.TempDir(t)
	for line := range strings.Lines(directives()) {
		m.ingest(dir, line)
	}
	m.try("bad\n", testenv.Program(t), "ingest", "--state-dir", dir, "--journal=auto")
	shown := m.run("", "sh", "-c", "journalctl --sync; LC_ALL=C.UTF-8 journalctl -x --no-pager -D /var/log/journal SYSLOG_IDENTIFIER="+Identifier)
	if n := strings.Count(shown, "░░ Defined-By: "+Identifier); n != 13 {
		t.Errorf("journalctl shows %d explanations, want 13:\n%.1500s", n, shown)
	}
	for _, subject := range matches(t, "(?m)^Subject: (.*)$", catalog) {
		if !strings.Contains(shown, "░░ Subject: "+subject) && !strings.Contains(subject, "missed") {
			t.Errorf("journalctl does not show the subject %q", subject)
		}
	}
	if strings.Contains(shown, "@") {
		t.Errorf("journalctl does not replace a field name:\n%s", shown)
	}
	for _, name := range matches(t, `@([A-Z_]+)@`, catalog) {
		if !strings.HasPrefix(name, "_") && !slices.Contains(fieldNames[:sentFields], name) {
			t.Errorf("the catalog uses %s, which a Mirror does not send", name)
		}
	}
}
