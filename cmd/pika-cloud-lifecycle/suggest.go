package main

import (
	"fmt"
	"slices"
	"strings"

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
	near := nearestFlag(undashed(e.flag), e.known)
	if near != "" {
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
		return []string{"fifo"}
	case "n", "check":
		return []string{"dry-run"}
	case "fix":
		return []string{"repair"}
	case "o", "output":
		return []string{"format"}
	case "strict", "policy":
		return []string{"transitions"}
	case "uid", "user":
		return []string{"trust-uid"}
	}
	return nil
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
	case "read", "listen", "stream", "report":
		return "ingest"
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
	case f.Name() == "ingest" || f.Name() == "rebuild":
		return fmt.Sprintf("%s reads its standard input, as in %s < FILE", f.Name(), f.Name())
	case f.Name() == "wait" && isState:
		return fmt.Sprintf("did you mean --for %s?", operand)
	case f.Name() == "status" && isState && !f.isGiven("state"):
		return fmt.Sprintf("did you mean --state %s?", operand)
	case f.Name() == "event" && isState && !f.isGiven("kind"):
		return fmt.Sprintf("did you mean --kind %s?", operand)
	case f.Name() == "result" && isState && !f.isGiven("status"):
		return fmt.Sprintf("did you mean --status %s?", operand)
	}
	return "put a value that has spaces in quotes"
}
