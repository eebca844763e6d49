//go:build linux && amd64

package faulttest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The kinds of findings.
const (
	lost           = "lost"
	repeated       = "repeated"
	gap            = "gaps"
	invalidFile    = "invalid files"
	leftOver       = "temporary files left"
	seqTooLow      = "seq file too low"
	inconsistent   = "inconsistent artifacts"
	notRepaired    = "not repaired"
	falseSuccess   = "false successes"
	blocked        = "blocked"
	notDurable     = "not durable"
	changedOutside = "changed outside"
	wrongWait      = "wrong waits"
)

// kinds lists the kinds in the order in which they are reported.
var kinds = []string{lost, repeated, gap, invalidFile, leftOver, seqTooLow, inconsistent, notRepaired, falseSuccess, blocked,
	notDurable, changedOutside, wrongWait}

// A finding is a promise of docs/format.md that was not kept.
type finding struct {
	kind string
	text string
}

// A ledger has the content of a state directory before a run, the lines that the run
// writes, and the number of lines that were acknowledged. With these it checks the content
// after the run.
type ledger struct {
	before         *picture
	lines          []line
	acked          int    // how many lines were acknowledged
	otherEvent     string // the message of another writer's event, which may be at any position
	seqFileChanged bool   // a hook has unlinked or replaced the seq file
	mayDegrade     bool   // the stream may write each of status, result and event without the others, and replace a previous result that it cannot keep
	maySkip        bool   // a failed append may have used up the first seq of an empty log
	findings       []finding
}

func (g *ledger) find(kind, format string, args ...any) {
	g.findings = append(g.findings, finding{kind, fmt.Sprintf(format, args...)})
}

// check compares the current content of the directory with the ledger.
func (g *ledger) check(now *picture) {
	for _, text := range now.invalidFiles {
		g.find(invalidFile, "%s", text)
	}
	if len(now.invalidFiles) > 0 {
		return
	}
	g.checkSeqs(now)
	g.checkEvents(now)
	g.checkTornLine(now, eventsLog, &eventSchema)
	g.checkTornLine(now, rejectsLog, &rejectSchema)
	g.checkRejects(now)
	g.checkSeqFile(now)
	g.checkStatus(now)
	g.checkResult(now)
}

// checkSeqs checks that the seqs increase by one from event to event. If the log had no
// events before, the first seq must be the number in the seq file plus one, or that of an
// earlier torn line of which only the newline was missing.
func (g *ledger) checkSeqs(now *picture) {
	all, before := now.all(), g.before.all()
	for i := 1; i < len(all); i++ {
		switch last, seq := all[i-1].seq, all[i].seq; {
		case seq <= last:
			g.find(repeated, "seq %d follows %d", seq, last)
		case seq > last+1:
			g.find(gap, "seq %d follows %d", seq, last)
		}
	}
	if len(all) == 0 {
		return
	}
	first, want := all[0].seq, g.before.seq+1
	if torn, err := eventSchema.decode(g.before.torn[eventsLog]); err == nil {
		want = torn.seq
	}
	switch {
	case len(before) > 0:
		mayRotateTwice := len(g.before.old) > 0
		if !mayRotateTwice && first != before[0].seq {
			g.find(lost, "the first event has seq %d, not %d", first, before[0].seq)
		}
	case first < want:
		g.find(repeated, "the first event has seq %d, expected %d", first, want)
	case first > want && !g.maySkip:
		g.find(gap, "the first event has seq %d, expected %d", first, want)
	}
}

// checkEvents checks that the log has all earlier events, and after them the new ones in
// their order, at least the acknowledged ones, and no others. An earlier torn line of
// which only the newline was missing may be in the log as an event.
func (g *ledger) checkEvents(now *picture) {
	all := slices.DeleteFunc(now.all(), func(a *artifact) bool { return g.otherEvent != "" && a.message == g.otherEvent })
	before := g.before.all()
	for i, old := range before {
		if i >= len(all) || *all[i] != *old {
			g.find(lost, "the earlier event %q", old.message)
			return
		}
	}
	all = all[len(before):]
	torn, err := eventSchema.decode(g.before.torn[eventsLog])
	if err == nil && len(all) > 0 && all[0].message == torn.message {
		all = all[1:]
	}
	for i, l := range g.lines {
		switch {
		case !l.event:
		case len(all) > 0 && l.wrote(all[0]):
			all = all[1:]
		case i < g.acked:
			g.find(lost, "the acknowledged event %q", l.message)
			return
		}
	}
	if len(all) > 0 {
		g.find(repeated, "event %q is in the log twice or in the wrong place", all[0].message)
	}
}

// checkTornLine checks that an earlier torn line is still in the log or in the .torn file.
func (g *ledger) checkTornLine(now *picture, log string, sc *schema) {
	torn := g.before.torn[log]
	_, err := sc.decode(torn)
	if err != nil && torn != "" && !strings.HasPrefix(now.torn[log], torn) && !strings.Contains(now.moved[log], torn) {
		g.find(lost, "the torn line %.60q", torn)
	}
}

func (g *ledger) checkRejects(now *picture) {
	rejects := now.rejects
	for _, old := range g.before.rejects {
		if len(rejects) == 0 || rejects[0].message != old.message {
			g.find(lost, "the earlier rejected line %q", old.message)
			return
		}
		rejects = rejects[1:]
	}
	for i, l := range g.lines {
		switch {
		case !l.rejected:
		case len(rejects) > 0 && strings.Contains(rejects[0].message, l.message):
			rejects = rejects[1:]
		case i < g.acked:
			g.find(lost, "the acknowledged rejected line %q", l.message)
			return
		}
	}
	if len(rejects) > 0 {
		g.find(repeated, "rejected line %q is in the file twice", rejects[0].message)
	}
}

// checkSeqFile checks that a writer that reads only the seq file would not use a seq for
// the second time. The seq file may have been too low before the run.
func (g *ledger) checkSeqFile(now *picture) {
	last := now.lastSeq()
	if torn, err := eventSchema.decode(now.torn[eventsLog]); err == nil {
		last = max(last, torn.seq)
	}
	isNewer := len(now.all()) > len(g.before.all())
	if !g.seqFileChanged && now.seq < last && (isNewer || now.seq < g.before.seq) {
		g.find(seqTooLow, "it contains %q, the last event has %d", now.seqText, last)
	}
}

// checkStatus checks that the status is the last acknowledged one or a later one, that
// its event is in the log, and that a final state has a result.
func (g *ledger) checkStatus(now *picture) {
	at := g.checkSource("status", now, now.status, g.before.status, func(l line) bool { return l.status })
	isFinal := now.status != nil && now.status.hasSeq && (now.status.word == "completed" || now.status.word == "failed")
	if at != unknownSource && isFinal && !g.mayDegrade && (now.result == nil || (now.result.hasSeq && now.result.seq < now.status.seq)) {
		g.find(inconsistent, "the status is %s, but the result is %+v", now.status.word, now.result)
	}
}

// checkResult checks that the result is the last acknowledged one or a later one, and
// that its event is in the log. The start of a run moves the result of the previous run
// to result.json.prev.
func (g *ledger) checkResult(now *picture) {
	old := g.before.result
	isResult := func(l line) bool { return l.result }
	isMoved := now.result == nil && now.prev != nil && old != nil && g.startsRun() &&
		!slices.ContainsFunc(g.lines[:g.acked], isResult)
	if !isMoved {
		g.checkSource("result", now, now.result, old, isResult)
	}
	if old != nil && !g.mayDegrade && g.startsRun() && !isSame(now.result, old) && !isSame(now.prev, old) {
		g.find(lost, "the result of the previous run")
	}
}

// startsRun reports whether the lines start a run.
func (g *ledger) startsRun() bool {
	return slices.ContainsFunc(g.lines, func(l line) bool { return l.word == "starting" })
}

func isSame(a, b *artifact) bool { return a != nil && b != nil && *a == *b }

// The sources of a status or result that no line wrote.
const (
	fromBefore    = -1 // it existed before
	absent        = -2 // it does not exist, and did not exist before
	unknownSource = -3 // it no longer exists, or no line wrote it
)

// source returns the number of the line that wrote a, or one of the constants.
func (g *ledger) source(a, before *artifact, writesIt func(line) bool) int {
	for i := len(g.lines) - 1; a != nil && i >= 0; i-- {
		if writesIt(g.lines[i]) && g.lines[i].wrote(a) {
			return i
		}
	}
	switch {
	case a == nil && before == nil:
		return absent
	case isSame(a, before):
		return fromBefore
	}
	return unknownSource
}

// checkSource checks that a, the status or the result, comes from the last acknowledged
// line or a later one, and that its event is in the log. It returns the source of a.
func (g *ledger) checkSource(name string, now *picture, a, before *artifact, writesIt func(line) bool) (at int) {
	at = g.source(a, before, writesIt)
	if at == unknownSource {
		g.find(lost, "%s is gone, or no line wrote it", name)
		return at
	}
	for i := max(at+1, 0); i < g.acked; i++ {
		if writesIt(g.lines[i]) {
			g.find(lost, "%s %q was acknowledged", name, g.lines[i].message)
			return at
		}
	}
	if at >= 0 && g.lines[at].event {
		event := now.eventOf(a)
		if g.mayDegrade && !a.hasSeq {
			return at // written before its event, which may be in the log although its sync failed
		}
		if event == nil || !a.hasSeq || event.seq != a.seq {
			g.find(inconsistent, "%s has seq %d, its event is %+v", name, a.seq, event)
		}
	}
	return at
}

// stale matches the name of a temporary file whose number is so long that the next
// writer removes it.
var stale = regexp.MustCompile(`^\..*\d{15,}$`)

// checkRepaired checks that the next writer has repaired all files, except those in
// except.
func (g *ledger) checkRepaired(now *picture, except ...string) {
	for _, name := range now.names {
		if stale.MatchString(name) {
			g.find(leftOver, "%s", name)
		}
		want := os.FileMode(0o644)
		if name == eventsLog+".seq" || name == "writer.lock" {
			want = 0o600
		}
		mode, isKnown := now.modes[name]
		if isKnown && mode != want && !temporary.MatchString(name) && !slices.Contains(except, name) {
			g.find(notRepaired, "%s has mode %v", name, mode)
		}
	}
	if want := fmt.Sprintf("%d\n", now.lastSeq()); now.seqText != want && want != "0\n" {
		g.find(notRepaired, "the seq file contains %q, the last event has %s", now.seqText, want)
	}
}
