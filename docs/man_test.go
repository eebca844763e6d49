package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

const manPage = program + ".1"

func TestManPage_lint(t *testing.T) {
	lint := exec.Command(testenv.Tool(t, "mandoc"), "-Tlint", manPage)
	// stderr has remarks on the man pages of this machine.
	if findings, err := lint.Output(); err != nil || len(findings) > 0 {
		t.Errorf("%v\n%s", err, findings)
	}
}

// manSection returns the text below a heading of the man page, up to the next heading
// of the same or a higher level.
func manSection(t *testing.T, macro, name string) string {
	t.Helper()
	_, text, ok := strings.Cut(testenv.ReadFile(t, manPage), "\n."+macro+" "+name+"\n")
	if !ok {
		t.Fatalf("the man page has no %s", name)
	}
	end := regexp.MustCompile(`(?m)^\.S[hs] `)
	if macro == "Sh" {
		end = regexp.MustCompile(`(?m)^\.Sh `)
	}
	if at := end.FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	return text
}

// submatches returns the first group of all matches, sorted and without duplicates.
func submatches(pattern, text string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// flagsOf returns the flags of a command, from its help text. A test of the command
// compares this text with the flags in the code.
func flagsOf(t *testing.T, name string) []string {
	t.Helper()
	return submatches(`(?m)^  --([a-z-]+)`, helpOf(t, name))
}

func helpOf(t *testing.T, argv ...string) string {
	t.Helper()
	argv = append([]string{testenv.Program(t)}, append(argv, "--help")...)
	help, stderr, code := command{}.run(t, argv...)
	if code != 0 || stderr != "" {
		t.Fatalf("%q: exit %d\n%s", argv, code, stderr)
	}
	return help
}

// commandsOf returns the commands of the program, from its error message for a missing
// command.
func commandsOf(t *testing.T) []string {
	t.Helper()
	_, stderr, code := command{}.run(t, testenv.Program(t))
	m := regexp.MustCompile(`expected a command: (.*);`).FindStringSubmatch(stderr)
	if code != 2 || m == nil {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	return strings.Split(m[1], ", ")
}

func TestManPage_commands(t *testing.T) {
	want := commandsOf(t)
	slices.Sort(want)
	if got := submatches(`(?m)^\.Ss (.*)$`, testenv.ReadFile(t, manPage)); !slices.Equal(got, want) {
		t.Errorf("the man page describes %v; the program has %v", got, want)
	}
	synopsis := manSection(t, "Sh", "SYNOPSIS")
	want = append(want, "help")
	slices.Sort(want)
	if got := submatches(`(?m)^\.Nm\n\.Cm (.*)$`, synopsis); !slices.Equal(got, want) {
		t.Errorf("the synopsis has %v; expected %v", got, want)
	}
}

func TestManPage_flags(t *testing.T) {
	synopsis := strings.Split(manSection(t, "Sh", "SYNOPSIS"), ".Nm\n")
	for _, name := range commandsOf(t) {
		want := flagsOf(t, name)
		i := slices.IndexFunc(synopsis, func(s string) bool { return strings.HasPrefix(s, ".Cm "+name+"\n") })
		if i < 0 {
			t.Fatalf("the synopsis has no %s", name)
		}
		for what, got := range map[string][]string{
			"synopsis":    submatches(`(?m)^\.(?:Op )?Fl -([a-z-]+)`, synopsis[i]),
			"description": submatches(`(?m)^\.It Fl -([a-z-]+)`, manSection(t, "Ss", name)),
		} {
			if !slices.Equal(got, want) {
				t.Errorf("%s of %s lists %v; the command accepts %v", what, name, got, want)
			}
		}
	}
}

// Each flag in the docs is a flag of some command.
func TestPages_unknown_flag(t *testing.T) {
	known := []string{"help", "version", "preserve-env"} // the last one is of sudo
	for _, name := range commandsOf(t) {
		known = append(known, flagsOf(t, name)...)
	}
	known = append(known, "type", "socket-path", "shared-dir", "all") // of incus, virtiofsd and journalctl
	for _, page := range []string{manPage, "format.md", "protocol.md", "run.md", "ingest.md", "notify.md", "host.md", "stability.md", "look.md", "../README.md"} {
		text := testenv.ReadFile(t, page)
		for _, flag := range submatches(`(?:\bFl -|[^-\w]--)([a-z][a-z-]*[a-z])`, text) {
			if !slices.Contains(known, flag) && flag != "name" { // Fl -name Ar value
				t.Errorf("%s: no command accepts --%s", page, flag)
			}
		}
	}
}

// exitCodes reads the codes from the source of the command.
func exitCodes(t *testing.T) (codes []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "../cmd/"+program+"/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "exit") {
			codes = append(codes, spec.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	if len(codes) == 0 {
		t.Fatal("no exit codes found in the source")
	}
	slices.Sort(codes)
	return codes
}

// The examples of a help text work when they are pasted into bash: each program exists,
// and pika-cloud-lifecycle accepts the command line.
func TestHelp_examples(t *testing.T) {
	bash := testenv.Tool(t, "bash")
	replacer := strings.NewReplacer("make test", "true", "jq keys", "cat", "less", "cat", "--follow", "",
		"--timeout 2m", "--timeout 0s", "sleep 5", "sleep 0.1", "sleep 1", "sleep 0.1")
	journal := regexp.MustCompile(`(?m)^  journalctl (?:.*\\\n)*.*\|$`) // also over several lines
	for _, name := range append(commandsOf(t), "") {
		_, examples, _ := strings.Cut(helpOf(t, strings.Fields(name)...), "\nExamples:\n")
		if n := strings.Count(examples, program); n < 2 || n > 5 {
			t.Errorf("%s --help has %d examples", name, n)
		}
		dir := t.TempDir()
		for _, state := range []string{"state", "guest7"} { // the examples read files in guest7
			command{state: filepath.Join(dir, state), input: "STATE=completed\n"}.run(t, testenv.Program(t), "ingest")
		}
		examples = journal.ReplaceAllString(replacer.Replace(examples), "  true |")
		script := "set -o pipefail\ntrap 'case $? in 2|126|127) exit 99;; esac' ERR\n" + examples
		_, stderr, code := command{dir: dir, state: filepath.Join(dir, "state")}.run(t, bash, "-c", script)
		if code == 99 {
			t.Errorf("%s --help: an example fails\n%s\n%s", name, examples, stderr)
		}
	}
}

func TestExitCodes_documented(t *testing.T) {
	want := exitCodes(t)
	row := `(?m)^\| (\d+) \| `
	for what, got := range map[string][]string{
		"man page": submatches(`(?m)^\.It (\d+)$`, manSection(t, "Sh", "EXIT STATUS")),
		"README":   submatches(row, testenv.ReadFile(t, "../README.md")),
	} {
		if !slices.Equal(got, want) {
			t.Errorf("the %s lists the exit codes %v; the program has %v", what, got, want)
		}
	}
}

func TestManPage_sections(t *testing.T) {
	got := regexp.MustCompile(`(?m)^\.Sh (.*)$`).FindAllStringSubmatch(testenv.ReadFile(t, manPage), -1)
	var names []string
	for _, m := range got {
		names = append(names, m[1])
	}
	for _, want := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
		if !slices.Contains(names, want) {
			t.Errorf("the man page has no %s", want)
		}
	}
}

func TestManPage_environment(t *testing.T) {
	files, err := filepath.Glob("../cmd/" + program + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source: %v", err)
	}
	var source strings.Builder
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			source.WriteString(testenv.ReadFile(t, file))
		}
	}
	want := submatches(`getenv\("([A-Z_]+)"\)`, source.String())
	want = append(want, "PIKA_LIFECYCLE_FD", "PIKA_LIFECYCLE_FIFO", "PIKA_LIFECYCLE_STREAM")
	if strings.Contains(source.String(), "time.Local") {
		want = append(want, "TZ")
	}
	slices.Sort(want)
	if len(want) < 2 {
		t.Fatalf("the source reads only %v", want)
	}
	if got := submatches(`\bEv ([A-Z_]+)`, manSection(t, "Sh", "ENVIRONMENT")); !slices.Equal(got, want) {
		t.Errorf("the man page names %v; the program reads %v", got, want)
	}
}
