package nix_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The programs of the images. They report only through ingest.
const (
	agentScript = "incus/agent-boot.sh"
	jobScript   = "incus/ci-job.py"
)

func words[T ~string](all []T) (words []string) {
	for _, word := range all {
		words = append(words, string(word))
	}
	return words
}

// listIn returns the words of a list in running text, such as "a, b and c".
func listIn(t *testing.T, page, pattern string) (words []string) {
	t.Helper()
	text := strings.Join(strings.Fields(testenv.ReadFile(t, page)), " ")
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no %s", page, pattern)
	}
	return regexp.MustCompile(`[a-z]+`).FindAllString(strings.ReplaceAll(m[1], " and ", " "), -1)
}

// enum returns the words that a schema allows for a key.
func enum(t *testing.T, schema, key string) (words []string) {
	t.Helper()
	var s struct {
		Properties map[string]struct{ Enum []*string }
	}
	if err := json.Unmarshal([]byte(testenv.ReadFile(t, "../docs/schema/"+schema+".json")), &s); err != nil {
		t.Fatal(err)
	}
	for _, word := range s.Properties[key].Enum {
		if word != nil { // absent
			words = append(words, *word)
		}
	}
	return words
}

func TestStates_same_everywhere(t *testing.T) {
	states, outcomes := words(artifact.States()), words(artifact.Outcomes())
	catalog := testenv.ReadFile(t, "../docs/catalog/pika-cloud-lifecycle.catalog")
	for where, got := range map[string][]string{
		"docs/format.md":             listIn(t, "../docs/format.md", `The \*\*ten states\*\*: (.*?)\.`),
		"docs/protocol.md":           listIn(t, "../docs/protocol.md", `The states are (.*?)\.`),
		"the man page":               listIn(t, "../docs/pika-cloud-lifecycle.1", `is one of (requested.*?)\.`),
		"docs/schema/status.json":    enum(t, "status", "state"),
		"docs/schema/events.json":    enum(t, "events", "kind"),
		"docs/schema/directive.json": enum(t, "directive", "state"),
		"kinds in directive.json":    enum(t, "directive", "kind"),
		"the catalog":                inCatalog(t, catalog, "event"),
	} {
		if !slices.Equal(got, states) {
			t.Errorf("%s has the states %v; the program has %v", where, got, states)
		}
	}
	for where, got := range map[string][]string{
		"docs/protocol.md":           listIn(t, "../docs/protocol.md", "\\| `status` \\| (.*?) \\|"),
		"docs/schema/result.json":    enum(t, "result", "status"),
		"statuses in directive.json": enum(t, "directive", "status"),
		"the results in the catalog": inCatalog(t, catalog, "result"),
	} {
		if !slices.Equal(got, outcomes) {
			t.Errorf("%s has the outcomes %v; the program has %v", where, got, outcomes)
		}
	}
}

// inCatalog returns the words for which docs/journal.md lists an ID that the
// catalog explains.
func inCatalog(t *testing.T, catalog, what string) (words []string) {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| " + what + " `([a-z]+)` \\| `([0-9a-f]{32})` \\|$")
	for _, m := range row.FindAllStringSubmatch(testenv.ReadFile(t, "../docs/journal.md"), -1) {
		if strings.Contains(catalog, "\n-- "+m[2]+"\nSubject: ") {
			words = append(words, m[1])
		}
	}
	return words
}

// The programs of the images report only known states. In the script the state is the
// first word after report, in the runner the first argument.
func TestImages_known_states(t *testing.T) {
	for script, want := range map[string][]string{
		agentScript: {"booted", "completed", "failed", "ready", "starting", "stopped"},
		jobScript:   {"booted", "completed", "failed", "starting"},
	} {
		var states []string
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:lifecycle\.)?report[ (]"?([a-z]+)`).FindAllStringSubmatch(testenv.ReadFile(t, script), -1) {
			states = append(states, m[1])
		}
		slices.Sort(states)
		if states = slices.Compact(states); !slices.Equal(states, want) {
			t.Errorf("%s reports %v; expected %v", script, states, want)
		}
		for _, word := range states {
			if _, ok := artifact.ParseState(word); !ok {
				t.Errorf("%s reports %s, which is not a state", script, word)
			}
		}
	}
}

// The host reads one directory. The module, the program, its docs and both scripts
// use the same.
func TestStateDir_same_everywhere(t *testing.T) {
	const dir = "/run/pika-cloud"
	for _, name := range []string{writer.StatusName, writer.EventsName, writer.ResultName} {
		if !slices.Contains([]string{"status.json", "events.jsonl", "result.json"}, name) {
			t.Errorf("the program writes %s", name)
		}
		for _, page := range []string{"../docs/format.md", "../docs/pika-cloud-lifecycle.1"} {
			if !strings.Contains(testenv.ReadFile(t, page), name) {
				t.Errorf("%s does not mention %s", page, name)
			}
		}
	}
	for file, text := range map[string]string{
		"../cmd/pika-cloud-lifecycle/flags.go": `dir = "` + dir + `"`,
		"../docs/format.md":                    "`" + dir + "`",
		"module.nix":                           `default = "` + dir + `";`,
		agentScript:                            "state_dir=${PIKA_LIFECYCLE_DIR:-" + dir + "}",
		jobScript:                              `os.environ.get("PIKA_LIFECYCLE_DIR") or "` + dir + `"`,
	} {
		if !strings.Contains(testenv.ReadFile(t, file), text) {
			t.Errorf("%s is missing %s", file, text)
		}
	}
}

// The programs of the images do not write artifacts themselves: they start one ingest
// and print to it.
func TestImages_report_only_to_ingest(t *testing.T) {
	forbidden := []string{"status.json", "events.jsonl", "result.json", "seq", "boot_id", "uptime", "updated_at",
		"lifecycle status", "lifecycle event", "lifecycle result", "jq", "flock", "rename", "+= 1"}
	for script, more := range map[string][]string{
		agentScript: {"{\"", "'{", "schema_version", "date"},
		jobScript:   {`"w"`, `"a"`, ".dump(", "datetime", "NamedTemporaryFile"},
	} {
		text := testenv.ReadFile(t, script)
		for _, word := range append(forbidden, more...) {
			if whole(word).MatchString(text) {
				t.Errorf("%s contains %s; only ingest may write artifacts", script, word)
			}
		}
		ingest := regexp.MustCompile(`pika-cloud-lifecycle\W+ingest`)
		if n := len(ingest.FindAllString(text, -1)); n != 1 {
			t.Errorf("%s starts ingest in %d places; expected 1", script, n)
		}
	}
	if n := strings.Count(testenv.ReadFile(t, jobScript), "json.dumps("); n != 1 {
		t.Errorf("%s encodes JSON in %d places; expected 1, for directives", jobScript, n)
	}
}

// whole matches a text that is not a part of a longer word.
func whole(text string) *regexp.Regexp {
	pattern := regexp.QuoteMeta(text)
	if letters := regexp.MustCompile(`^\w+$`); letters.MatchString(text) {
		pattern = `\b` + pattern + `\b`
	}
	return regexp.MustCompile(pattern)
}

func TestImages_install_package(t *testing.T) {
	t.Parallel()
	mustNix(t, "nix-instantiate", "--version")
	for image, c := range map[string]struct{ unit, settings string }{
		"managed-agent-image": {"pika-cloud-managed-agent", `{ services.pika-cloud-managed-agent = { command = [ "x" ]; probe = "true"; }; }`},
		"ci-image":            {"pika-cloud-ci", "{ }"},
	} {
		s := evalSystem(t, "./nix/incus/"+image+".nix", c.settings)
		if len(s.Path) != 1 || !strings.Contains(s.Path[0], "-pika-cloud-lifecycle-") {
			t.Errorf("%s has the path %v; expected the package", image, s.Path)
			continue
		}
		if unit := s.Services[c.unit]; !slices.Contains(unit.Path, s.Path[0]) {
			t.Errorf("the unit of %s has the path %v; expected %s", image, unit.Path, s.Path[0])
		}
		if !slices.Equal(s.Rules, []string{"d /run/pika-cloud 0755 root root -"}) {
			t.Errorf("%s has the tmpfiles rules %v; expected a state directory owned by root", image, s.Rules)
		}
	}
}

func TestScripts_lint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tool     []string
		patterns []string
	}{
		{[]string{"shellcheck"}, []string{"*.sh", "testdata/boot/*.sh", "testdata/nixpkgs/*.sh"}},
		{[]string{"mypy", "--strict", "--python-version=3.9", "--cache-dir=" + t.TempDir()}, []string{"incus/*.py", "testdata/boot/*.py"}},
	} {
		testenv.Tools(t, c.tool[0])
		args := c.tool[1:]
		for _, pattern := range c.patterns {
			found, err := filepath.Glob(pattern)
			if err != nil || len(found) == 0 {
				t.Fatalf("%s: %d files, %v", pattern, len(found), err)
			}
			args = append(args, found...)
		}
		if out, err := exec.Command(c.tool[0], args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", c.tool, err, out)
		}
	}
}
