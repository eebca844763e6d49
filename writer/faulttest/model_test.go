//go:build linux && amd64

package faulttest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The kinds of a finding.
const (
	lost        = "lost"
	repeated    = "repeated"
	gap         = "gaps"
	unloadable  = "unloadable"
	leftOver    = "left-over temporaries"
	seqTooLow   = "seq file too low"
	disagree    = "artifacts that disagree"
	notRepaired = "not repaired"
	falseZero   = "false acknowledgements"
	blocked     = "blocked"
	notDurable  = "not durable"
	touched     = "touched outside"
)

// kinds are all of them, in the order in which they are reported.
var kinds = []string{lost, repeated, gap, unloadable, leftOver, seqTooLow, disagree, notRepaired, falseZero, blocked,
	notDurable, touched}

// A finding is a promise that was not kept.
type finding struct {
	kind string
	text string
}

// A ledger is what must be true of a state directory, given its content before,
// the lines written since, and how many of them were acknowledged.
type ledger struct {
	before   *picture
	lines    []line
	settled  int    // how many lines were acknowledged
	foreign  string // message of another writer's event, which may be anywhere
	seqGone  bool   // a hook has unlinked or replaced the seq file
	maySkip  bool   // a failed append may have used up the first seq of an empty log
	findings []finding
}

func (g *ledger) find(kind, format string, args ...any) {
	g.findings = append(g.findings, finding{kind, fmt.Sprintf(format, args...)})
}

// check compares the directory as it is now with the ledger.
func (g *ledger) check(now *picture) {
	for _, text := range now.unloaded {
		g.find(unloadable, "%s", text)
	}
	if len(now.unloaded) > 0 {
		return
	}
	g.checkSeqs(now)
	g.checkEvents(now)
	g.checkTail(now, eventsLog, &eventSchema)
	g.checkTail(now, rejectsLog, &rejectSchema)
	g.checkRejects(now)
	g.checkSeqFile(now)
	g.checkStatus(now)
	g.checkResult(now)
}

// checkSeqs demands that the seqs increase by one from event to event, and that
// the first event follows the seq file if there was no event before. A torn line
// from before that lacks only its newline counts as an event.
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
	if tail, err := eventSchema.decode(g.before.torn[eventsLog]); err == nil {
		want = tail.seq
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

// checkEvents demands all events from before, then those written since, in their
// order, at least as many as were acknowledged, and no others. A tail that lacked
// only its newline may have become an event.
func (g *ledger) checkEvents(now *picture) {
	all := slices.DeleteFunc(now.all(), func(a *artifact) bool { return g.foreign != "" && a.message == g.foreign })
	before := g.before.all()
	for i, old := range before {
		if i >= len(all) || *all[i] != *old {
			g.find(lost, "event %q from before", old.message)
			return
		}
	}
	all = all[len(before):]
	tail, err := eventSchema.decode(g.before.torn[eventsLog])
	if err == nil && len(all) > 0 && all[0].message == tail.message {
		all = all[1:]
	}
	for i, l := range g.lines {
		switch {
		case !l.event:
		case len(all) > 0 && l.wrote(all[0]):
			all = all[1:]
		case i < g.settled:
			g.find(lost, "event %q was acknowledged", l.message)
			return
		}
	}
	if len(all) > 0 {
		g.find(repeated, "event %q is there twice, or out of its order", all[0].message)
	}
}

// checkTail demands that a torn line from before is kept, somewhere.
func (g *ledger) checkTail(now *picture, log string, sc *schema) {
	tail := g.before.torn[log]
	_, err := sc.decode(tail)
	if err != nil && tail != "" && !strings.HasPrefix(now.torn[log], tail) && !strings.Contains(now.aside[log], tail) {
		g.find(lost, "the torn line %.60q", tail)
	}
}

func (g *ledger) checkRejects(now *picture) {
	rejects := now.rejects
	for _, old := range g.before.rejects {
		if len(rejects) == 0 || rejects[0].message != old.message {
			g.find(lost, "reject %q from before", old.message)
			return
		}
		rejects = rejects[1:]
	}
	for i, l := range g.lines {
		switch {
		case !l.rejected:
		case len(rejects) > 0 && strings.Contains(rejects[0].message, l.message):
			rejects = rejects[1:]
		case i < g.settled:
			g.find(lost, "reject %q was acknowledged", l.message)
			return
		}
	}
	if len(rejects) > 0 {
		g.find(repeated, "reject %q is there twice", rejects[0].message)
	}
}

// checkSeqFile demands that a writer which relies on the seq file alone uses no
// seq twice, unless it would have done so before.
func (g *ledger) checkSeqFile(now *picture) {
	last := now.lastSeq()
	if tail, err := eventSchema.decode(now.torn[eventsLog]); err == nil {
		last = max(last, tail.seq)
	}
	isNewer := len(now.all()) > len(g.before.all())
	if !g.seqGone && now.seq < last && (isNewer || now.seq < g.before.seq) {
		g.find(seqTooLow, "it contains %q, the last event has %d", now.seqText, last)
	}
}

// checkStatus demands the last acknowledged status or a later one, its event, and
// a result with a final state.
func (g *ledger) checkStatus(now *picture) {
	at := g.checkSource("status", now, now.status, g.before.status, func(l line) bool { return l.status })
	isFinal := now.status != nil && now.status.hasSeq && (now.status.word == "completed" || now.status.word == "failed")
	if at != unexplained && isFinal && (now.result == nil || (now.result.hasSeq && now.result.seq < now.status.seq)) {
		g.find(disagree, "the status is %s, but the result is %+v", now.status.word, now.result)
	}
}

// checkResult demands the last acknowledged result or a later one, and its event.
// The start of a run moves the result of the previous run to result.json.prev.
func (g *ledger) checkResult(now *picture) {
	old := g.before.result
	isResult := func(l line) bool { return l.result }
	isMoved := now.result == nil && now.prev != nil && old != nil && g.startsRun() &&
		!slices.ContainsFunc(g.lines[:g.settled], isResult)
	if !isMoved {
		g.checkSource("result", now, now.result, old, isResult)
	}
	if old != nil && g.startsRun() && !isSame(now.result, old) && !isSame(now.prev, old) {
		g.find(lost, "the result of the previous run")
	}
}

// startsRun reports whether the lines start a run.
func (g *ledger) startsRun() bool {
	return slices.ContainsFunc(g.lines, func(l line) bool { return l.word == "starting" })
}

func isSame(a, b *artifact) bool { return a != nil && b != nil && *a == *b }

// Where the status or the result comes from, if not from a line.
const (
	fromBefore  = -1 // it was there before
	absent      = -2 // it is not there, and was not
	unexplained = -3 // it is gone, or no line wrote it
)

// source returns the number of the line that wrote a, or one of the constants.
func (g *ledger) source(a, before *artifact, isWriter func(line) bool) int {
	for i := len(g.lines) - 1; a != nil && i >= 0; i-- {
		if isWriter(g.lines[i]) && g.lines[i].wrote(a) {
			return i
		}
	}
	switch {
	case a == nil && before == nil:
		return absent
	case isSame(a, before):
		return fromBefore
	}
	return unexplained
}

// checkSource demands that a, the status or the result, comes from the last
// acknowledged line or a later one, and has that line's event. It returns where
// it comes from.
func (g *ledger) checkSource(name string, now *picture, a, before *artifact, isWriter func(line) bool) (at int) {
	at = g.source(a, before, isWriter)
	if at == unexplained {
		g.find(lost, "%s is gone, or no line wrote it", name)
		return at
	}
	for i := max(at+1, 0); i < g.settled; i++ {
		if isWriter(g.lines[i]) {
			g.find(lost, "%s %q was acknowledged", name, g.lines[i].message)
			return at
		}
	}
	if at >= 0 && g.lines[at].event {
		event := now.eventOf(a)
		if event == nil || !a.hasSeq || event.seq != a.seq {
			g.find(disagree, "%s has seq %d, its event is %+v", name, a.seq, event)
		}
	}
	return at
}

// stale matches the name of a temporary whose number is long enough for the next
// writer to remove it.
var stale = regexp.MustCompile(`^\..*\d{15,}$`)

// checkRepaired demands of a directory that the next writer has used that no trace
// of a fault is left, except in the files named by ill.
func (g *ledger) checkRepaired(now *picture, ill ...string) {
	for _, name := range now.names {
		if stale.MatchString(name) {
			g.find(leftOver, "%s", name)
		}
		want := os.FileMode(0o644)
		if name == eventsLog+".seq" {
			want = 0o600
		}
		mode, isKnown := now.modes[name]
		if isKnown && mode != want && !temporary.MatchString(name) && !slices.Contains(ill, name) {
			g.find(notRepaired, "%s has mode %v", name, mode)
		}
	}
	if want := fmt.Sprintf("%d\n", now.lastSeq()); now.seqText != want && want != "0\n" {
		g.find(notRepaired, "the seq file contains %q, the last event has %s", now.seqText, want)
	}
}
