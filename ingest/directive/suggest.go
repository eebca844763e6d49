package directive

import (
	"fmt"
	"slices"
	"strings"
)

// synonyms are words that callers write instead of a choice: the words of
// systemd, of containers and of test runners for the states and outcomes, and
// other names of the keys. A word may belong to several choices; Nearest uses the
// first that is possible.
var synonyms = [...]struct{ choice, words string }{
	{"requested", "new pending queued scheduled accepted"},
	{"provisioning", "creating create building installing setup configuring"},
	{"booted", "boot booting"},
	{"starting", "start started launching launched init initializing activating restarting"},
	{"ready", "running run up ok healthy active alive live online listening serving available"},
	{"completed", "complete done success successful succeeded succeed succeded finished finish passed pass exited"},
	{"failed", "error err errored fail failure failing crashed crash aborted killed timeout unhealthy"},
	{"unreachable", "lost offline disconnected"},
	{"stopped", "stop stopping shutdown poweroff halted halt down dead inactive paused"},
	{"destroyed", "destroy deleted delete removed terminated gone"},

	{"result", "outcome"},
	{"type", "action"},
	{"state", "phase"},
	{"kind", "event"},
	{"status", "result outcome"},
	{"message", "msg text reason description error"},
	{"exit_code", "exit code rc exitcode exit_status returncode return_code"},
	{"details", "detail data meta metadata extra"},
	{"timestamp", "time ts date when"},
}

// Nearest returns the choice that word most likely stands for: one that word is
// a synonym of, or else the one that is the fewest changed letters away, if
// these are at most two and at most half of the choice. It returns "" if there
// is none.
func Nearest(word string, choices []string) string {
	if len(word) > 40 {
		return "" // no choice is that long, and the work grows with the length
	}
	word = strings.ToLower(word)
	for _, s := range synonyms {
		if slices.Contains(choices, s.choice) && slices.Contains(strings.Fields(s.words), word) {
			return s.choice
		}
	}
	best, least := "", 3
	for _, c := range choices {
		if n := distance(word, c); n < least && 2*n <= len(c) {
			best, least = c, n
		}
	}
	return best
}

// distance returns the Levenshtein distance of a and b: how many bytes must be
// inserted, removed or changed to turn one into the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// didYouMean returns a hint that names the choice nearest to text, or "" if none is near.
// letters converts the choice to the case in which the line writes it.
func didYouMean(text []byte, choices []string, letters func(string) string) string {
	word := Nearest(string(text), choices)
	if word == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", letters(word))
}
