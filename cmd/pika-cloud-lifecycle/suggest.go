package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// didYouMean suggests the choice that is nearest to word, if one is near.
func didYouMean(word string, choices []string) string {
	near := directive.Nearest(word, choices)
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", near)
}

// An unknownFlagError reports a flag that a subcommand does not have.
type unknownFlagError struct {
	flag    string // with its dashes
	command string
	known   []string // the flags of the subcommand, without dashes
}

func (e *unknownFlagError) Error() string {
	suggestion := ""
	name := undashed(e.flag)
	near := nearestFlag(name, e.known)
	switch {
	case e.command == "plot" && slices.Contains([]string{"o", "out", "output"}, name):
		return fmt.Sprintf("unknown flag %s; plot prints the picture on standard output, as in plot > history.svg", e.flag)
	case e.command == "send" && slices.Contains(directiveKeys(), strings.ReplaceAll(name, "-", "_")):
		key := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		return fmt.Sprintf("unknown flag %s; give it without dashes, as in %s=value", e.flag, key)
	case name == "version" || name == "V":
		suggestion = "did you mean pika-cloud-lifecycle --version? "
	case near != "":
		suggestion = fmt.Sprintf("did you mean --%s? ", near)
	}
	return fmt.Sprintf("unknown flag %s; %ssee %s --help", e.flag, suggestion, e.command)
}

// nearestFlag returns the known flag that the user most likely means by name: one
// with the same meaning, one that begins with name, or the nearest. It returns ""
// if there is none.
func nearestFlag(name string, known []string) string {
	for _, alias := range flagAliases(name) {
		if slices.Contains(known, alias) {
			return alias
		}
	}
	if len(name) < 3 {
		return "" // too short: -f is near to --fd
	}
	var longer []string
	for _, flag := range known {
		if strings.HasPrefix(flag, name) {
			longer = append(longer, flag)
		}
	}
	if len(longer) == 1 {
		return longer[0]
	}
	return directive.Nearest(name, known)
}

// flagAliases returns the flags that a user may mean by name, because a flag of this
// name has the same meaning in another subcommand or in another program.
func flagAliases(name string) []string {
	switch name {
	case "C", "d", "dir", "directory", "path":
		return []string{"state-dir"}
	case "state":
		return []string{"kind", "status", "for"}
	case "kind", "event", "type":
		return []string{"state", "status"}
	case "status", "outcome", "result":
		return []string{"status", "state", "kind"}
	case "until":
		return []string{"for"}
	case "m", "msg", "text", "description":
		return []string{"message"}
	case "detail", "details", "data", "json":
		return []string{"details-json", "format"}
	case "code", "exit", "exit-status", "rc":
		return []string{"exit-code"}
	case "t", "limit", "deadline", "time-limit", "time-out":
		return []string{"timeout"}
	case "k":
		return []string{"kill-after"}
	case "f", "tail", "watch":
		return []string{"follow"}
	case "pipe":
		return []string{"fifo", "to"}
	case "fifo", "fd", "socket":
		return []string{"to"}
	case "n", "check":
		return []string{"dry-run"}
	case "fix":
		return []string{"repair"}
	case "o", "output", "out":
		return []string{"format"}
	case "strict", "policy":
		return []string{"transitions"}
	case "uid", "user":
		return []string{"trust-uid"}
	}
	return nil
}

// longDashes are the characters that word processors write instead of hyphens.
const longDashes = "\u2010\u2011\u2012\u2013\u2014\u2212"

// startsWithLongDash reports whether arg is a flag whose dashes were replaced, as
// word processors and web pages do.
func startsWithLongDash(arg string) bool {
	first, size := utf8.DecodeRuneInString(strings.TrimPrefix(arg, "-"))
	return strings.ContainsRune(longDashes, first) && size < len(arg)
}

// directiveKeys returns the keys of a directive.
func directiveKeys() []string {
	return []string{"type", "state", "kind", "status", "message", "exit_code", "details", "timestamp"}
}

// isDirective reports whether arg is a word such as STATE=ready, which the shell
// passes on unchanged.
func isDirective(arg string) bool {
	key, value, found := strings.Cut(arg, "=")
	isKey := slices.Contains([]string{"state", "kind", "status", "type", "message"}, strings.ToLower(key))
	return found && isKey && !strings.ContainsFunc(value, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c)
	})
}

// nearestCommand returns the subcommand, with its flag if one is needed, that the
// user most likely means by name. It returns "" if there is none.
func nearestCommand(name string) string {
	switch strings.ToLower(name) {
	case "version", "v", "-v":
		return "--version"
	case "usage", "-?", "man":
		return "--help"
	case "start", "exec", "launch", "execute":
		return "run"
	case "read", "listen", "stream":
		return "ingest"
	case "report", "write", "emit", "notify", "tell", "push":
		return "send"
	case "restore", "import", "copy", "recover":
		return "rebuild"
	case "await", "until":
		return "wait"
	case "state", "set":
		return "status"
	case "log", "logs", "history", "events", "view", "list", "ls", "cat", "print", "inspect":
		return "show"
	case "tail", "follow", "watch":
		return "show --follow"
	case "draw", "graph", "svg", "chart":
		return "plot"
	case "check", "validate", "fsck", "test":
		return "verify"
	case "repair", "fix":
		return "verify --repair"
	case "schemas":
		return "schema"
	}
	return directive.Nearest(name, append(subcommandNames(), "help", "--help", "--version"))
}

// operandHint suggests what the user may have meant by an operand. The subcommand
// accepts none.
func (f *flagSet) operandHint(operand string) string {
	isState := slices.Contains(artifact.States(), artifact.State(operand))
	switch {
	case operand == "help":
		return fmt.Sprintf("did you mean %s --help?", f.Name())
	case startsWithLongDash(operand):
		return fmt.Sprintf("a flag starts with --; did you mean --%s?", strings.TrimLeft(operand, longDashes+"-"))
	case f.Name() == "ingest" && isDirective(operand):
		return fmt.Sprintf("ingest reads directives from its standard input, as in echo %s | pika-cloud-lifecycle ingest", operand)
	case f.Name() == "ingest" || f.Name() == "rebuild":
		return fmt.Sprintf("%s reads its standard input, as in %s < FILE", f.Name(), f.Name())
	case f.Name() == "wait" && isState && f.isGiven("for"):
		return fmt.Sprintf("separate states with commas, as in --for %s,%s", strings.TrimRight(f.Lookup("for").Value.String(), ","), operand)
	case f.Name() == "wait" && isState:
		return fmt.Sprintf("did you mean --for %s?", operand)
	case f.Name() == "wait" && !f.isGiven("for"):
		return "give states with --for, as in --for ready"
	case f.Name() == "wait" && !f.isGiven("state-dir"):
		return fmt.Sprintf("did you mean --state-dir %s?", operand)
	case f.Name() == "status" && isState && !f.isGiven("state"):
		return fmt.Sprintf("did you mean --state %s?", operand)
	case f.Name() == "event" && isState && !f.isGiven("kind"):
		return fmt.Sprintf("did you mean --kind %s?", operand)
	case f.Name() == "result" && isState && !f.isGiven("status"):
		return fmt.Sprintf("did you mean --status %s?", operand)
	}
	return "put a value that has spaces in quotes"
}
