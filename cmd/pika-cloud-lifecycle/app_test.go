package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
)

// help returns the help text of a command.
func help(t *testing.T, argv ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	a := app{stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	if code := a.main(append(argv, "--help")); code != exitOK || stderr.Len() > 0 {
		t.Fatalf("%q --help exits %d: %s", argv, code, &stderr)
	}
	return stdout.String()
}

func TestHelpNamesEveryFlagAndNoOther(t *testing.T) {
	name := regexp.MustCompile(`--[a-z-]+`)
	listed := regexp.MustCompile(`(?m)^  (--[a-z-]+)`)
	for _, command := range subcommandNames() {
		_, said := runHere([]string{command, "--no-such-flag"})
		_, known, ok := strings.Cut(said, "; expected ")
		if !ok {
			t.Fatalf("%s --no-such-flag says %q", command, said)
		}
		flags := name.FindAllString(known, -1)
		var shown []string
		for _, m := range listed.FindAllStringSubmatch(help(t, command), -1) {
			shown = append(shown, m[1])
		}
		slices.Sort(shown)
		if !slices.Equal(shown, flags) {
			t.Errorf("%s --help shows %q, want %q", command, shown, flags)
		}
	}
}

func TestHelpNamesEveryCommandAndFitsATerminal(t *testing.T) {
	for _, command := range subcommandNames() {
		if !strings.Contains(help(t), "pika-cloud-lifecycle "+command+" ") {
			t.Errorf("--help does not name %s", command)
		}
		for _, line := range append(linesOf(help(t)), linesOf(help(t, command))...) {
			if len(line) > 80 || strings.TrimRight(line, " \t") != line {
				t.Errorf("%s --help: %q", command, line)
			}
		}
	}
}

// A screen has 24 lines, one of which is the prompt's.
func TestHelpFitsAScreenAndEndsInTwoExamples(t *testing.T) {
	for _, command := range append([]string{""}, subcommandNames()...) {
		argv := strings.Fields(command)
		text := help(t, argv...)
		if n := strings.Count(text, "\n"); n > 23 {
			t.Errorf("%s --help has %d lines", command, n)
		}
		_, examples, ok := strings.Cut(text, "\nExamples:\n")
		if n := len(regexp.MustCompile(`(?m)^  \S.*$`).FindAllString(examples, -1)); !ok || n != 2 {
			t.Errorf("%s --help ends in %d examples", command, n)
		}
		for example := range strings.SplitSeq(strings.TrimSuffix(examples, "\n"), "\n  p") {
			if !strings.Contains(example, "ika-cloud-lifecycle "+command) && command != "" {
				t.Errorf("%s --help has the example %q", command, example)
			}
		}
	}
}

func TestHelpShowsTheDefaults(t *testing.T) {
	text := help(t, "ingest")
	for _, want := range []string{"(1048576)", "(67108864)", "(8388608)", "(5s)", "(30s)", "warn (default)", "(/run/pika-cloud,"} {
		if !strings.Contains(text, want) {
			t.Errorf("ingest --help does not say %s", want)
		}
	}
	f := (&app{getenv: func(string) string { return "" }}).newIngestFlags()
	for flag, want := range map[string]string{"max-line": "1048576", "max-events": "67108864", "max-rejected": "8388608",
		"grace": "5s", "write-timeout": "30s", "transitions": "warn", "state-dir": "/run/pika-cloud", "journal": "never"} {
		if got := f.Lookup(flag).DefValue; got != want {
			t.Errorf("--%s is %s by default, want %s", flag, got, want)
		}
	}
}

func TestWhatATerminalObeysIsEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"plain é 中文 😀 \ufffd": "plain é 中文 😀 \ufffd",
		"a\nb\r\tc":           `a\u000ab\u000d\u0009c`,
		"\x1b[31m\x7f":        `\u001b[31m\u007f`,
		"\u009b31m":           `\u009b31m`,
		"\u202e\u2028\u2066":  `\u202e\u2028\u2066`,
		"\ufffe\uffff":        `\ufffe\uffff`,
		"\xff\xefx":           `\xff\xefx`,
	} {
		if got := timeline.Printable(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
