package journal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

const catalog = "../../docs/catalog/" + Identifier + ".catalog"

// ids returns the MESSAGE_IDs in the source, by the names of their constants.
func ids(t *testing.T) map[string]string {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "entry.go", nil, 0)
	testenv.Must(t, err)
	all := map[string]string{}
	ast.Inspect(tree, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "id") {
			id, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			testenv.Must(t, err)
			all[spec.Names[0].Name] = id
		}
		return true
	})
	if len(all) != 14 {
		t.Fatalf("%d MESSAGE_IDs in the source", len(all))
	}
	return all
}

func found(t *testing.T, pattern, path string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	testenv.Must(t, err)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return all
}

func TestCatalogAndDocsHaveTheIDsOfTheSource(t *testing.T) {
	want := slices.Sorted(maps.Values(ids(t)))
	if len(slices.Compact(slices.Clone(want))) != len(want) {
		t.Error("an ID is used twice")
	}
	if got := found(t, `(?m)^-- ([0-9a-f]{32})$`, catalog); !slices.Equal(got, want) {
		t.Errorf("the catalog has\n%v, the source\n%v", got, want)
	}
	page := "../../docs/journal.md"
	if got := found(t, "(?m)^\\| .* \\| `([0-9a-f]{32})` \\|$", page); !slices.Equal(got, want) {
		t.Errorf("%s has\n%v, the source\n%v", page, got, want)
	}
	for _, s := range []string{"requested", "failed", "destroyed"} {
		if got := found(t, "event `"+s+"` \\| `([0-9a-f]{32})`", page); len(got) != 1 || got[0] != kindID(artifact.State(s)) {
			t.Errorf("%s has %v for %s", page, got, s)
		}
	}
}

// TestTheDocsListEveryFieldThatIsSent, and no other.
func TestTheDocsListEveryFieldThatIsSent(t *testing.T) {
	want := found(t, `(?:add|addSome)\("([A-Z_]+)"`, "entry.go")
	want = slices.Compact(want)
	if got := found(t, "(?m)^\\| `([A-Z_]+)` \\|", "../../docs/journal.md"); !slices.Equal(got, want) || len(want) < 15 {
		t.Errorf("docs/journal.md lists\n%v, the source sends\n%v", got, want)
	}
}

// TestJournalctlExplainsEveryKind with the catalog as the real tools compile
// it: nothing in it is left unfilled.
func TestJournalctlExplainsEveryKind(t *testing.T) {
	m := newJournal(t, 31)
	text, err := os.ReadFile(catalog)
	testenv.Must(t, err)
	install := `mount -t tmpfs t /usr/lib/systemd/catalog && mount -t tmpfs t /var/lib/systemd/catalog &&
		cat >/usr/lib/systemd/catalog/ours.catalog && journalctl --update-catalog && journalctl --list-catalog`
	list := m.run(string(text), "sh", "-c", install)
	if n := strings.Count(list, Identifier); n != 14 {
		t.Fatalf("%d entries in the catalog:\n%s", n, list)
	}
	dir := testenv.TempDir(t)
	for line := range strings.Lines(directives()) {
		m.ingest(dir, line)
	}
	m.try("bad\n", testenv.Program(t), "ingest", "--state-dir", dir, "--journal=auto")
	shown := m.run("", "sh", "-c", "journalctl --sync; LC_ALL=C.UTF-8 journalctl -x --no-pager -D /var/log/journal SYSLOG_IDENTIFIER="+Identifier)
	if n := strings.Count(shown, "░░ Defined-By: "+Identifier); n != 13 {
		t.Errorf("%d explanations, want 13:\n%.1500s", n, shown)
	}
	for _, subject := range found(t, "(?m)^Subject: (.*)$", catalog) {
		if !strings.Contains(shown, "░░ Subject: "+subject) && !strings.Contains(subject, "missed") {
			t.Errorf("%q is not shown", subject)
		}
	}
	if strings.Contains(shown, "@") {
		t.Errorf("a field was not filled in:\n%s", shown)
	}
	for _, name := range found(t, `@([A-Z_]+)@`, catalog) {
		if !strings.HasPrefix(name, "_") && !slices.Contains(found(t, `(?:add|addSome)\("([A-Z_]+)"`, "entry.go"), name) {
			t.Errorf("the catalog names %s, which is not sent", name)
		}
	}
}
