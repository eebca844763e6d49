package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// shells are the shells with which directive.sh is tested.
var shells = [][]string{{"dash"}, {"busybox", "ash"}, {"bash"}, {"bash", "--posix"}, {"zsh"}, {"zsh", "--emulate", "sh"}, {"mksh"}}

// forEachShell runs a test in each shell, with the C and a UTF-8 locale, and with Big5 if
// SWEEP is set: there the last byte of a character can be a backslash.
func forEachShell(t *testing.T, test func(t *testing.T, shell, locale []string)) {
	locales := [][]string{{"LC_ALL=C"}, {"LC_ALL=C.UTF-8"}}
	if os.Getenv("SWEEP") != "" {
		dir := t.TempDir()
		// localedef exits with 1 after a warning, also if it has created the locale.
		out, _ := exec.Command(testenv.Tool(t, "localedef"), "-c", "-i", "zh_TW", "-f", "BIG5", filepath.Join(dir, "zh_TW.BIG5")).CombinedOutput()
		if _, err := os.Stat(filepath.Join(dir, "zh_TW.BIG5")); err != nil {
			testenv.Missing(t, "the source of a Big5 locale; install the package locales\n%s", out)
		}
		locales = append(locales, []string{"LC_ALL=zh_TW.BIG5", "LOCPATH=" + dir})
	}
	for _, shell := range shells {
		for _, locale := range locales {
			t.Run(strings.Join(shell, " ")+"/"+strings.TrimPrefix(locale[0], "LC_ALL="), func(t *testing.T) {
				testenv.Tool(t, shell[0])
				test(t, shell, locale)
			})
		}
	}
}

// shellOutput returns what a script prints with arguments. It fails the test if the script
// fails or prints anything on stderr.
func shellOutput(t *testing.T, shell, locale []string, script string, args []string) string {
	t.Helper()
	path, err := filepath.Abs("directive.sh")
	testenv.Must(t, err)
	argv := append(append(shell[1:len(shell):len(shell)], "-euc", strings.ReplaceAll(script, "SCRIPT", path), "test"), args...)
	cmd := exec.Command(testenv.Tool(t, shell[0]), argv...)
	var stderr bytes.Buffer
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, locale...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%q: %v\n%s", argv[:2], err, &stderr)
	}
	return string(out)
}

// textValues returns values with every byte but NUL, and random ones; each byte by
// itself too if SWEEP=full.
func textValues() (values []string) {
	random := 20
	values = append(values, "", "\n", "\n\n\n", "a\n", "\\n", "%s%d%%", "-n", "--", "-e a", "(", "!", "=", "*", "~", "$HOME", "`id`", "$(id)",
		"\xa5\x5c\xb3\x5c", "\xc3", "é\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\u2028\u0085\ufeff",
		strings.Repeat("long text, é, ", 80), strings.Repeat("\x01\"\\\n", 40))
	var all []byte
	for c := 1; c < 256; c++ {
		all = append(all, byte(c))
	}
	values = append(values, string(all[:32]), string(all[32:]), string(all))
	if os.Getenv("SWEEP") == "full" {
		random = 150
		for _, c := range all {
			b := string([]byte{c})
			values = append(values, b, "é"+b+b+"1")
		}
	}
	alphabets := []string{"", "\"\\ab \n", "\x01\x02\x07\b\t\n\v\f\r\x1b\x1f\x7f0a", "é€😀\u0085\u2028ab", "\xc2\xc3\xe2\x80\x82\xac\xed\xa0\xf0\x9f\\\""}
	rnd := rand.New(rand.NewPCG(18, 4))
	for range random {
		alphabet := alphabets[rnd.IntN(len(alphabets))]
		var b []byte
		for range rnd.IntN(60) {
			if alphabet == "" {
				b = append(b, byte(1+rnd.IntN(255)))
			} else {
				b = append(b, alphabet[rnd.IntN(len(alphabet))])
			}
		}
		values = append(values, string(b))
	}
	return values
}

// The functions of directive.sh print any text as one JSON directive, byte for byte, in each
// shell, also with set -eu. Invalid UTF-8 arrives as U+FFFD.
func TestDirectiveScript_any_text(t *testing.T) {
	forEachShell(t, func(t *testing.T, shell, locale []string) {
		values := textValues()
		out := shellOutput(t, shell, locale, `. SCRIPT; for text do directive failed "$text"; done`, values)
		lines := strings.Split(out, "\n")
		if len(lines) != len(values)+1 {
			t.Fatalf("%d lines for %d values", len(lines)-1, len(values))
		}
		for i, value := range values {
			var dec directive.Decoder
			d, r := dec.Decode([]byte(lines[i]), false)
			if r != nil {
				t.Fatalf("%q: %s: %v", value, lines[i], r)
			}
			want := string(strictjson.AppendText(nil, []byte(value)))
			if d.Type != directive.Transition || d.State != "failed" || string(d.Message) != want {
				t.Fatalf("%q: %s: %s", value, lines[i], d.Message)
			}
		}
	})
}

// The examples of directive.sh are directives, and the message is optional.
func TestDirectiveScript_arguments(t *testing.T) {
	forEachShell(t, func(t *testing.T, shell, locale []string) {
		got := shellOutput(t, shell, locale, `. SCRIPT; directive ready; directive stopped ''; text='a "b"'; directive failed "$text" "\"exit_code\":7,\"details\":$(json "$text")"`, nil)
		const want = `{"state":"ready","message":"ready"}
{"state":"stopped","message":""}
{"state":"failed","message":"a \u0022b\u0022","exit_code":7,"details":"a \u0022b\u0022"}
`
		if got != want {
			t.Errorf("got\n%sexpected\n%s", got, want)
		}
	})
}

// A directive to a closed pipe does not end the script.
func TestDirectiveScript_without_reader(t *testing.T) {
	for _, shell := range shells {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			r, w, err := os.Pipe()
			testenv.Must(t, err, r.Close())
			defer w.Close()
			path, err := filepath.Abs("directive.sh")
			testenv.Must(t, err)
			argv := append(shell[1:len(shell):len(shell)], "-c", `. "$1"; directive ready >&3 2>/dev/null || :; echo continued`, "test", path)
			cmd := exec.Command(testenv.Tool(t, shell[0]), argv...)
			cmd.ExtraFiles = []*os.File{w}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != "continued\n" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

// The pages show directive.sh as it is, without the first line, which is for shellcheck.
func TestDirectiveScript_in_pages(t *testing.T) {
	script := strings.TrimPrefix(testenv.ReadFile(t, "directive.sh"), "# shellcheck shell=sh\n\n")
	for _, page := range []string{"protocol.md"} {
		if !strings.Contains(testenv.ReadFile(t, page), "\n```sh\n"+script+"```\n") {
			t.Errorf("%s does not contain directive.sh", page)
		}
	}
}

// A shell function has the same body in all pages and scripts of docs, so a reader can combine
// their examples.
func TestPages_shell_functions(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	testenv.Must(t, err)
	bodies := make(map[string]string) // of each function
	for _, page := range append(pages, "../README.md") {
		for _, block := range fenced(t, page, "sh", "bash") {
			for _, m := range regexp.MustCompile(`(?ms)^(\w+)\(\) (?:\{[^\n]*\}|\(.*?^\))$`).FindAllStringSubmatch(block, -1) {
				name, body := m[1], m[0]
				if other, ok := bodies[name]; ok && other != body {
					t.Errorf("%s has another function %s than an earlier page:\n%s\n%s", page, name, body, other)
				}
				bodies[name] = body
			}
		}
	}
	for _, name := range []string{"report", "directive", "json"} {
		if bodies[name] == "" {
			t.Errorf("no page has the function %s", name)
		}
	}
}

// With the printf of dash and of busybox, ingest names the cause for the line that is
// accepted, and for the one that is rejected. With that of bash there is no warning.
func TestPrintf_q(t *testing.T) {
	for _, c := range []struct {
		shell    []string
		warnings int
	}{{[]string{"dash"}, 4}, {[]string{"busybox", "ash"}, 4}, {[]string{"bash"}, 0}} {
		t.Run(c.shell[0], func(t *testing.T) {
			testenv.Tool(t, c.shell[0])
			const script = `
printf 'STATE=starting MESSAGE=%q\n' "it's text"
printf 'STATE=ready\n'
printf 'KIND=ready DETAILS.n:=%d MESSAGE=step\\ %d:\\ %q\n' 1 2 "it's text"
printf '{"state":"ready","message":"it is ready"}\n'
printf 'STATE=ready MESSAGE=%q\n' "it's text"
printf 'STATE=ready MESSAGE=text\n'
printf 'STATE=ready MESSAGE=%q\n' "it's text"
printf 'STATE=stopped MESSAGE=%q\n' "it's text"
`
			input, _, _ := command{}.run(t, append(c.shell, "-c", script)...)
			state := t.TempDir()
			_, stderr, _ := command{state: state, input: input}.run(t, testenv.Program(t), "ingest")
			const cause = `is inside a value and has no effect; if printf has no %q, as in dash and busybox, it has joined two lines: use "pika-cloud-lifecycle send" or docs/directive.sh`
			if n := strings.Count(stderr, cause); n != c.warnings {
				t.Errorf("%d warnings, expected %d; the input is\n%s\n%s", n, c.warnings, input, stderr)
			}
			var status struct{ State, Message string }
			testenv.Must(t, json.Unmarshal([]byte(testenv.ReadFile(t, filepath.Join(state, "status.json"))), &status))
			got := fmt.Sprint(status.State, ": ", status.Message)
			want := "starting: STATE=ready"
			if c.warnings == 0 {
				want = "stopped: it's text"
			}
			if got != want {
				t.Errorf("the status is %s; expected %s", got, want)
			}
		})
	}
}
