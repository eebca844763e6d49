package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

const completions = "../../nix/completions/"

// flagWords are the words that the completions offer for flags whose help has the
// placeholder WORD, LIST or HOW.
var flagWords = map[string][]string{
	"--boot":        {"current", "any"},
	"--format":      {"text", "json"},
	"--journal":     {"never", "auto", "always"},
	"--notify":      {"auto", "never", "systemd", "incus", "systemd,incus"},
	"--ready":       {"notify", "fd:"},
	"--transitions": {"warn", "enforce", "off"},
}

// A completer returns what a shell offers for each beginning of a command line, without
// the name of the program.
type completer func(t *testing.T, lines []string) (offers [][]string)

func completers() map[string]completer {
	return map[string]completer{
		"bash":                      bashCompleter(""),
		"bash with bash-completion": bashCompleter("/usr/share/bash-completion/bash_completion"),
		"zsh":                       zshCompleter,
		"fish":                      fishCompleter,
	}
}

// completionDir returns a directory in which a file and a directory have a space in their
// names.
func completionDir(t *testing.T) string {
	dir := t.TempDir()
	testenv.Must(t, os.MkdirAll(filepath.Join(dir, "my dir"), 0o755), os.WriteFile(filepath.Join(dir, "my file"), nil, 0o755))
	return dir
}

// bashCompleter types each line into an interactive bash, and then M-*, which inserts all
// completions. A function with the name of the program prints the arguments that it gets.
func bashCompleter(before string) completer {
	return func(t *testing.T, lines []string) [][]string {
		file, err := filepath.Abs(completions + "pika-cloud-lifecycle.bash")
		testenv.Must(t, err)
		rc := "set -o emacs; bind 'set enable-bracketed-paste off'; bind 'set completion-ignore-case off'\n"
		if before != "" {
			if _, err := os.Stat(before); err != nil {
				testenv.Missing(t, "the package bash-completion is not installed")
			}
			rc += ". " + before + "\n"
		} else { // bash-completion needs the usual settings
			rc += "set -u; IFS=:\n"
		}
		return typed(t, lines, rc+". "+file, "\x1b*", "--norc", "--noprofile", "-i")
	}
}

// zshCompleter does the same with zsh.
func zshCompleter(t *testing.T, lines []string) [][]string {
	testenv.Tool(t, "zsh")
	dir, err := filepath.Abs(completions)
	testenv.Must(t, err)
	return typed(t, lines, `fpath=('`+dir+`' $fpath); autoload -Uz compinit; compinit -u -D; bindkey -e
zle -C all-matches complete-word _generic; bindkey '^T' all-matches
zstyle ':completion:all-matches::::' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true; unsetopt automenu prompt_sp beep; unset zle_bracketed_paste`, "\x14", "-c", "exec zsh -f -i")
}

// shellError matches an error message of bash or zsh: "bash: compopt: …" or
// "_arguments:comparguments:325: …".
var shellError = regexp.MustCompile(`(?m)^[-\w:]+: .*$`)

// typed starts a shell on a terminal, and types the lines, each followed by key.
func typed(t *testing.T, lines []string, setup, key string, args ...string) (offers [][]string) {
	t.Helper()
	dir := completionDir(t)
	rc := filepath.Join(t.TempDir(), "rc")
	setup += `
PS1= PS2= PROMPT=; cd '` + dir + `'
pika-cloud-lifecycle() { printf '\nGOT:'; [ $# = 0 ] || printf '<%s>' "$@"; printf ':END\n'; }
`
	testenv.Must(t, os.WriteFile(rc, []byte(setup), 0o644))
	term := newTerminal(t, dir, args...)
	term.send(". '" + rc + "'; echo READY''NOW\n")
	term.expect("READYNOW")
	for _, line := range lines {
		term.send("pika-cloud-lifecycle " + line + key + "\n")
		term.expect("GOT:")
		if message := shellError.FindString(term.passed); message != "" {
			t.Errorf("completing %q prints %q", line, message)
		}
		term.expect(":END")
		var got []string
		for _, m := range regexp.MustCompile(`<([^>]*)>`).FindAllStringSubmatch(term.passed, -1) {
			got = append(got, m[1])
		}
		before := strings.Fields(strings.NewReplacer(`\ `, "_", `"`, "", "'", "").Replace(line))
		if !strings.HasSuffix(line, " ") && len(before) > 0 {
			before = before[:len(before)-1]
		}
		offers = append(offers, got[min(len(before), len(got)):])
	}
	return offers
}

// fishCompleter asks fish, which prints the completions of a line.
func fishCompleter(t *testing.T, lines []string) (offers [][]string) {
	fish := testenv.Tool(t, "fish")
	file, err := filepath.Abs(completions + "pika-cloud-lifecycle.fish")
	testenv.Must(t, err)
	script := "source '" + file + "'\n"
	for _, line := range lines {
		script += "complete --do-complete='pika-cloud-lifecycle " + strings.ReplaceAll(line, "'", `\'`) + "'; echo :END\n"
	}
	cmd := exec.Command(fish, "--no-config", "-c", script)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = completionDir(t), &stderr
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir())
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s", err, &stderr)
	}
	for block := range strings.SplitSeq(strings.TrimSuffix(string(out), ":END\n"), ":END\n") {
		var got []string
		for line := range strings.Lines(block) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			got = append(got, word)
		}
		offers = append(offers, got)
	}
	return offers
}

// A completion is the beginning of a command line, and what the shells must offer. Nothing
// is the same as the last word itself.
type completion struct {
	line string
	want []string
}

// checkCompletions compares what each shell offers. Slashes after directories, and the
// flag of --flag=value, are not compared.
func checkCompletions(t *testing.T, all func(shell string) []completion) {
	for _, name := range []string{"pika-cloud-lifecycle.bash", "_pika-cloud-lifecycle", "pika-cloud-lifecycle.fish"} {
		testenv.ReadFile(t, completions+name) // the test cache does not see what a shell reads
	}
	for shell, complete := range completers() {
		t.Run(strings.ReplaceAll(shell, " ", "_"), func(t *testing.T) {
			t.Parallel()
			var lines []string
			cases := all(shell)
			for _, c := range cases {
				lines = append(lines, c.line)
			}
			for i, got := range complete(t, lines) {
				c := cases[i]
				last := c.line[strings.LastIndex(c.line, " ")+1:]
				for j, word := range got {
					if word == last && !slices.Contains(c.want, word) {
						word = "" // nothing was offered
					}
					if prefix, value, found := strings.Cut(word, "="); found && strings.HasPrefix(last, prefix+"=") {
						word = value
					}
					got[j] = strings.TrimSuffix(word, "/")
				}
				got = slices.DeleteFunc(got, func(word string) bool { return word == "" })
				want := slices.Sorted(slices.Values(c.want))
				slices.Sort(got)
				if got = slices.Compact(got); !slices.Equal(got, want) {
					t.Errorf("%q is completed with %q; expected %q%s", c.line, got, want, difference(got, want))
				}
			}
		})
	}
}

// difference names the words that are missing or unexpected.
func difference(got, want []string) (text string) {
	for _, word := range want {
		if !slices.Contains(got, word) {
			text += "; missing: " + word
		}
	}
	for _, word := range got {
		if !slices.Contains(want, word) {
			text += "; unexpected: " + word
		}
	}
	return text + "; edit the files in nix/completions"
}

// valueOf returns the placeholder of the value of a flag, from the help: DIR, or "" for a
// switch.
func valueOf(t *testing.T, command, flag string) string {
	m := regexp.MustCompile(`(?m)^  ` + flag + `(?: ([A-Z]+))?(?:$|  )`).FindStringSubmatch(help(t, command))
	if m == nil {
		t.Fatalf("the help of %s does not list %s", command, flag)
	}
	return m[1]
}

func dashed(names []string) (all []string) {
	for _, name := range names {
		all = append(all, "--"+name)
	}
	return all
}

func TestCompletions_commands_and_flags(t *testing.T) {
	checkCompletions(t, func(string) []completion {
		all := []completion{
			{"", append(subcommandNames(), "help")},
			{"--", []string{"--help", "--version"}},
			{"ver", []string{"verify"}},
			{"help ", subcommandNames()},
			{"help run ", nil},
		}
		for _, command := range subcommandNames() {
			all = append(all, completion{command + " --", append(dashed(flagsOf(t, command)), "--help")})
		}
		return all
	})
}

// Each flag is completed with its values, after a space and after =. After a switch, other
// flags are completed.
func TestCompletions_values(t *testing.T) {
	checkCompletions(t, func(shell string) (all []completion) {
		for _, command := range subcommandNames() {
			for _, flag := range dashed(flagsOf(t, command)) {
				start := command + " " + flag
				var want []string
				switch value := valueOf(t, command, flag); value {
				case "":
					all = append(all, completion{start + " --hel", []string{"--help"}})
					continue
				case "STATE", "STATES":
					for _, state := range artifact.States() {
						want = append(want, string(state))
					}
				case "OUTCOME":
					want = []string{string(artifact.Completed), string(artifact.Failed)}
				case "DIR":
					want = []string{"my dir"}
				case "PATH":
					want = []string{"my dir", "my file"}
				case "DURATION", "JSON", "N", "SEQ", "SIZE", "TEXT", "UID":
				default:
					if want = flagWords[flag]; want == nil {
						t.Fatalf("the help has %s %s; add the words to flagWords, or the placeholder to those without words", start, value)
					}
				}
				all = append(all, completion{start + " ", want}, completion{start + "=", want})
				if shell != "fish" { // fish offers flags instead of the value
					all = append(all, completion{start + " --hel", nil})
				}
			}
		}
		return all
	})
}

// The help of a flag names each word that the completions offer.
func TestCompletions_words(t *testing.T) {
	for flag, words := range flagWords {
		found := false
		for _, command := range subcommandNames() {
			if !slices.Contains(dashed(flagsOf(t, command)), flag) {
				continue
			}
			found = true
			_, text, _ := strings.Cut(help(t, command), "\n  "+flag+" ")
			text, _, _ = strings.Cut(text, "\n  --")
			for _, word := range words {
				if !regexp.MustCompile(`\b` + regexp.QuoteMeta(word) + `\b`).MatchString(text) {
					t.Errorf("%s --help does not name the word %s of %s", command, word, flag)
				}
			}
		}
		if !found {
			t.Errorf("no command has %s", flag)
		}
	}
}

// keys are the beginnings of the arguments of send. TYPE is never needed.
func keys() []string {
	all := []string{"DETAILS."}
	for _, key := range directiveKeys() {
		if key != "type" {
			all = append(all, strings.ToUpper(key)+"=")
		}
	}
	return all
}

func TestCompletions_operands(t *testing.T) {
	checkCompletions(t, func(string) []completion {
		return []completion{
			{"show my", []string{"my dir", "my file"}},
			{`show my\ d`, []string{"my dir"}},
			{"show --utc my", []string{"my dir", "my file"}},
			{"plot --state-dir x my", []string{"my dir", "my file"}},
			{"verify my", []string{"my dir"}},
			{"verify -- my", []string{"my dir"}},
			{"schema ", []string{"directive", "events", "rejected", "result", "status"}},
			{"schema re", []string{"rejected", "result"}},
			{"ingest m", nil},
			{"send ", keys()},
			{"send STATE=ready D", []string{"DETAILS=", "DETAILS."}},
			{"send STATE=re", []string{"ready", "requested"}},
			{"send KIND=re", []string{"ready", "requested"}},
			{"send STATUS=", []string{"completed", "failed"}},
			{"send MESSAGE=x", nil},
			{"send --timeout 1s -- STATE=re", []string{"ready", "requested"}},
			{"wait --timeout 2m m", nil},
			{"wait --for=ready,com", []string{"ready,completed"}},
			{"wait --for ready,com", []string{"ready,completed"}},
			{"run --state-dir=my", []string{"my dir"}},
			{"no-such-command ", nil},
		}
	})
}

// After --, or the first operand, the command of run is completed as if it were typed
// alone.
func TestCompletions_command_of_run(t *testing.T) {
	checkCompletions(t, func(string) []completion {
		all := []completion{
			{"run -- pika-cloud-lifecycle ver", []string{"verify"}},
			{"run pika-cloud-lifecycle ver", []string{"verify"}},
			{"run -- pika-cloud-lifecycle status --state=re", []string{"ready", "requested"}},
			{"run -- pika-cloud-lifecycle wait --for=ready,com", []string{"ready,completed"}},
			{"run -- no-such-program my", []string{"my dir", "my file"}},
			{"run -- sha256su", []string{"sha256sum"}},
			{"run sha256su", []string{"sha256sum"}},
			{"run -- ./my", []string{"./my dir", "./my file"}},
		}
		for _, flag := range dashed(flagsOf(t, "run")) {
			if valueOf(t, "run", flag) != "" {
				flag += " x"
			}
			all = append(all, completion{"run " + flag + " -- pika-cloud-lifecycle ver", []string{"verify"}})
		}
		return all
	})
}
