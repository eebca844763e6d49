package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
)

// help returns the help text of a command, or of the program if argv is empty.
func help(t *testing.T, argv ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	a := app{stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	if code := a.main(append(argv, "--help")); code != exitOK || stderr.Len() > 0 {
		t.Fatalf("%q --help exits with %d: %s", argv, code, &stderr)
	}
	return stdout.String()
}

// flagsOf returns the flags that a command defines.
func flagsOf(t *testing.T, command string) []string {
	t.Helper()
	a := app{stdout: io.Discard, getenv: func(string) string { return "" }}
	var unknown *unknownFlagError
	if err := findSubcommand(command).main(&a, []string{"--no-such-flag"}); !errors.As(err, &unknown) {
		t.Fatalf("%s --no-such-flag: %v; expected an unknownFlagError", command, err)
	}
	return unknown.known
}

func TestHelp_lists_all_flags(t *testing.T) {
	listed := regexp.MustCompile(`(?m)^  --([a-z-]+)`)
	for _, command := range subcommandNames() {
		var got []string
		for _, m := range listed.FindAllStringSubmatch(help(t, command), -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		if want := flagsOf(t, command); !slices.Equal(got, want) {
			t.Errorf("%s --help lists the flags %q; the command has %q", command, got, want)
		}
	}
}

func TestHelp_lists_all_commands(t *testing.T) {
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)  +[a-z]`).FindAllStringSubmatch(help(t), -1) {
		got = append(got, m[1])
	}
	for _, command := range subcommandNames() {
		if !slices.Contains(got, command) {
			t.Errorf("--help does not list %s", command)
		}
	}
}

// Each help text begins with the command line, has the parts in the same order, and
// fits a terminal of 80 columns.
func TestHelp_parts(t *testing.T) {
	for _, command := range append([]string{""}, subcommandNames()...) {
		text := help(t, strings.Fields(command)...)
		parts := []string{"Usage: ", "Flags:", "Advanced:", "Environment:", "Files, ", "Exit status:", "Examples:"}
		optional := []string{"Flags:", "Advanced:", "Environment:", "Files, "}
		at := -1
		for _, part := range parts {
			i := strings.Index("\n"+text, "\n"+part)
			switch {
			case i < 0 && slices.Contains(optional, part):
			case i < 0:
				t.Errorf("%s --help has no part %q", command, part)
			case i < at:
				t.Errorf("%s --help: %q is too early", command, part)
			default:
				at = i
			}
		}
		if command != "" && len(flagsOf(t, command)) > 0 && !strings.Contains(text, "\nFlags:\n") {
			t.Errorf("%s --help has no part Flags", command)
		}
		for _, line := range linesOf(text) {
			if len(line) > 80 || strings.TrimRight(line, " \t") != line {
				t.Errorf("%s --help: longer than 80 columns, or ends in a space: %q", command, line)
			}
		}
	}
}

// The defaults in the help texts are those of the flags.
func TestHelp_defaults(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	ingestFlags := a.newIngestFlags().FlagSet
	rebuildFlags := a.newStreamFlags("rebuild", rebuildUsage, maxEntry).FlagSet
	for _, c := range []struct {
		flags *flag.FlagSet
		names []string
	}{
		{ingestFlags, []string{"max-line", "max-events", "max-rejected", "grace", "write-timeout", "transitions", "journal", "notify", "fd"}},
		{rebuildFlags, []string{"max-line", "max-events", "max-rejected", "grace", "fd"}},
	} {
		command := c.flags.Name()
		text := help(t, command)
		for _, name := range c.names {
			value := c.flags.Lookup(name).DefValue
			found := regexp.MustCompile(`(?s)\n  --` + name + ` .*?\(default ([^,)\s]+)`).FindStringSubmatch(text)
			if found == nil || found[1] != value {
				t.Errorf("%s --help shows %q as the default of --%s; it is %s", command, found, name, value)
			}
		}
	}
	if dir := ingestFlags.Lookup("state-dir").DefValue; dir != "/run/pika-cloud" {
		t.Errorf("--state-dir is %s by default", dir)
	}
}

func TestFlagSet_parseOperands(t *testing.T) {
	for _, c := range []struct{ args, operands, text, bool, err string }{
		{"", "", "", "false", ""},
		{"--text x a -bool b", "a b", "x", "true", ""},
		{"-text=x=y --bool=false a", "a", "x=y", "false", ""},
		{"a --text= b", "a b", "", "false", ""},
		{"a -- --text x -z", "a --text x -z", "", "false", ""},
		{"- --bool -", "- -", "", "true", ""},
		{"--text -1", "", "-1", "false", ""},
		{"--text", "", "", "", "--text needs a value; see command --help"},
		{"--text -- file", "", "", "", "--text needs a value; see command --help"},
		{"--text --bool", "", "", "", `--text needs a value; if "--bool" is the value, write --text=--bool`},
		{"--text --bool=true", "", "", "", `--text needs a value; if "--bool=true" is the value, write --text=--bool=true`},
		{"--bool=x", "", "", "", `--bool is "x"; expected no value, or true or false`},
		{"--no=x", "", "", "", "unknown flag --no; see command --help"},
		{"a --duration 1", "", "", "", `--duration is "1"; expected a duration such as 10s, 10m or 24h; did you mean 1s?`},
		{"--duration=-1s", "", "", "", `--duration is "-1s"; expected 0s or longer`},
		{"--int 1.5", "", "", "", `--int is "1.5"; expected the number of a descriptor, such as 3`},
	} {
		f := new(app).newFlags("command", "")
		text, isTrue := f.String("text", "", ""), f.Bool("bool", false, "")
		f.Duration("duration", 0, "")
		f.Int("int", 0, "")
		operands, err := f.parseOperands(strings.Fields(c.args))
		switch {
		case c.err != "":
			if err == nil || err.Error() != "command: "+c.err || exitCode(err) != exitUsage {
				t.Errorf("%q: error %v, want %s", c.args, err, c.err)
			}
		case err != nil || strings.Join(operands, " ") != c.operands || *text != c.text || fmt.Sprint(*isTrue) != c.bool:
			t.Errorf("%q: operands %q, --text %q, --bool %v, error %v", c.args, operands, *text, *isTrue, err)
		}
	}
}

func TestNearestFlag(t *testing.T) {
	for _, c := range []struct{ command, name, want string }{
		{"show", "f", "follow"},
		{"event", "state", "kind"},
		{"status", "kind", "state"},
		{"result", "state", "status"},
		{"wait", "state", "for"},
		{"result", "exitcode", "exit-code"},
		{"result", "dir", "state-dir"},
		{"ingest", "transition", "transitions"},
		{"ingest", "require", "require-result"},
		{"ingest", "max", ""}, // three flags begin with it
		{"ingest", "f", ""},   // near to fd
		{"run", "timeot", "timeout"},
		{"verify", "fix", "repair"},
	} {
		if got := nearestFlag(c.name, flagsOf(t, c.command)); got != c.want {
			t.Errorf("%s --%s: suggests %q, want %q", c.command, c.name, got, c.want)
		}
	}
}

func TestNearestCommand(t *testing.T) {
	for name, want := range map[string]string{
		"version": "--version", "-v": "--version", "-V": "--version", "start": "run", "exec": "run",
		"log": "show", "tail": "show --follow", "stat": "status", "verfiy": "verify", "hlep": "help",
		"--versoin": "--version", "frobnicate": "", "--state-dir": "",
	} {
		if got := nearestCommand(name); got != want {
			t.Errorf("%s: suggests %q, want %q", name, got, want)
		}
	}
}

func TestSizeValue(t *testing.T) {
	for text, want := range map[string]string{
		"1": "1", "1024": "1K", "1k": "1K", "64M": "64M", "65536K": "64M", "100m": "100M", "1500": "1500",
		"0":                   "a size from 1 to 100M",
		"101M":                "a size from 1 to 100M",
		"-1":                  "a size from 1 to 100M",
		"-8589934593G":        "a size such as 500000, 512K, 8M or 1G",
		"8589934592G":         "a size such as 500000, 512K, 8M or 1G",
		"9223372036854775808": "a size such as 500000, 512K, 8M or 1G",
		"1MB":                 "a size such as 500000, 512K, 8M or 1G; did you mean 1M?",
		"1.5M":                "a size such as 500000, 512K, 8M or 1G",
		"M":                   "a size such as 500000, 512K, 8M or 1G",
		"":                    "a size such as 500000, 512K, 8M or 1G",
		"1 M":                 "a size such as 500000, 512K, 8M or 1G; did you mean 1M?",
	} {
		n := int64(7)
		v := &sizeValue{&n, 1, 100 << 20}
		got := ""
		err := v.Set(text)
		if err != nil {
			got = err.Error()
		} else {
			got = v.String()
		}
		if got != want || (err != nil && n != 7) {
			t.Errorf("%q: %s (%d), want %s", text, got, n, want)
		}
	}
}

// Printable escapes what a terminal would interpret.
func TestPrintable_control_characters(t *testing.T) {
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
