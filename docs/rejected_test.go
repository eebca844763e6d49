package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A rejectedExample is a row of the tables of rejected lines in protocol.md. The
// input of ingest is either the line or the output of the command.
type rejectedExample struct {
	line    string
	command string // of bash
	flag    string // of ingest, or ""
	message string
}

// rejectedExamples reads the two tables. Each cell is a code span, or empty if
// there is no flag.
func rejectedExamples(t *testing.T) (all []rejectedExample) {
	t.Helper()
	_, section, ok := strings.Cut(testenv.ReadFile(t, "protocol.md"), "\n## Rejected lines\n")
	if !ok {
		t.Fatal("protocol.md has no section on rejected lines")
	}
	cell := regexp.MustCompile("^`([^`]*)`$|^()$")
	for row := range strings.Lines(section) {
		row = strings.TrimSuffix(row, "\n")
		if !strings.HasPrefix(row, "|") || strings.HasPrefix(row, "|---") || strings.HasSuffix(row, "| message |") {
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(row, "|"), " | ") {
			m := cell.FindStringSubmatch(strings.TrimSpace(c))
			if m == nil {
				t.Fatalf("%s is not a code span", c)
			}
			cells = append(cells, m[1])
		}
		switch len(cells) {
		case 2:
			all = append(all, rejectedExample{line: cells[0], message: "line 1, " + cells[1]})
		case 3:
			all = append(all, rejectedExample{flag: cells[0], command: cells[1], message: cells[2]})
		default:
			t.Fatalf("%d cells: %s", len(cells), row)
		}
	}
	if len(all) < 50 {
		t.Fatalf("protocol.md has %d examples of rejected lines; expected at least 50", len(all))
	}
	return all
}

// ingest prints the message of each row, and exits with 3.
func TestProtocol_rejected_lines(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	for _, e := range rejectedExamples(t) {
		input := e.line + "\n"
		if e.command != "" {
			input, _, _ = command{}.run(t, bash, "-c", e.command)
		}
		argv := []string{testenv.Program(t), "ingest"}
		if e.flag != "" {
			argv = append(argv, e.flag)
		}
		_, stderr, code := command{input: input}.run(t, argv...)
		message, _, _ := strings.Cut(stderr, "\n")
		if message != program+": "+e.message || code != 3 {
			t.Errorf("%s%s:\ngot %s, exit %d\nexpected %s: %s, exit 3", e.line, e.command, message, code, program, e.message)
		}
	}
}

// The first example of protocol.md works as it is, and changes nothing.
func TestProtocol_dry_run_example(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	example := fenced(t, "protocol.md", "bash")[0]
	state := t.TempDir()
	stdout, stderr, code := command{state: state}.run(t, bash, "-c", example)
	if code != 0 || stderr != "" || !strings.Contains(stdout, `"status": "failed"`) {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) > 0 {
		t.Errorf("the state directory has %v: %v", entries, err)
	}
}
