//go:build linux && amd64

package crashtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The kinds of a finding, as the sweep counts them.
const (
	lost       = "lost"
	repeated   = "repeated"
	gap        = "gaps"
	unloadable = "unloadable"
	leftOver   = "left-over temporaries"
	seqTooLow  = "seq file too low"
	disagree   = "artifacts that disagree"
	notHealed  = "not healed"
	falseZero  = "false acknowledgements"
	blocked    = "blocked"
	notDurable = "not durable"
	touched    = "touched outside"
)

// A finding is a promise that was not kept.
type finding struct {
	kind string
	text string
}

// A ledger is what must be true of a directory: what stood there, what was
// written since, and how much of that was acknowledged.
type ledger struct {
	before   *picture
	lines    []line
	settled  int    // lines acknowledged
	foreign  string // message of another writer's event, which may stand anywhere
	seqGone  bool   // somebody took the seq file away
	findings []finding
}

func (g *ledger) find(kind, format string, args ...any) {
	g.findings = append(g.findings, finding{kind, fmt.Sprintf(format, args...)})
}

// check holds the directory as it is now against the ledger.
func (g *ledger) check(now *picture) {
	for _, text := range now.unloaded {
		g.find(unloadable, "%s", text)
	}
	if len(now.unloaded) > 0 {
		return
	}
	g.checkSeqs(now)
	g.checkEvents(now)
	g.checkTail(now)
	g.checkRejects(now)
	g.checkSeqFile(now)
	g.checkStatus(now)
	g.checkResult(now)
}

// all returns the events of the log and the one before it.
func (p *picture) all() []*artifact { return slices.Concat(p.old, p.events) }

// lastSeq returns the last seq in use.
func (p *picture) lastSeq() uint64 {
	all := p.all()
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Seq
}

// byMessage returns the event with a message; every message is its own.
func (p *picture) byMessage(message string) *artifact {
	all := p.all()
	i := slices.IndexFunc(all, func(a *artifact) bool { return a.Message == message })
	if i < 0 {
		return nil
	}
	return all[i]
}

func (g *ledger) checkSeqs(now *picture) {
	all := now.all()
	for i := 1; i < len(all); i++ {
		switch before, seq := all[i-1].Seq, all[i].Seq; {
		case seq <= before:
			g.find(repeated, "seq %d follows %d", seq, before)
		case seq > before+1:
			g.find(gap, "seq %d follows %d", seq, before)
		}
	}
	if last := g.before.lastSeq(); last > 0 && all != nil && len(g.before.old) == 0 && all[0].Seq != g.before.all()[0].Seq {
		g.find(lost, "the history begins with seq %d", all[0].Seq)
	}
}

// checkEvents demands all events from before, then those written since in
// their order, at least as many as were acknowledged, and no others. A tail
// that lacked only its newline may have become an event.
func (g *ledger) checkEvents(now *picture) {
	all := slices.DeleteFunc(now.all(), func(a *artifact) bool { return g.foreign != "" && a.Message == g.foreign })
	want := g.before.all()
	for i, old := range want {
		if i >= len(all) || all[i].Message != old.Message || all[i].Seq != old.Seq {
			g.find(lost, "event %q from before", old.Message)
			return
		}
	}
	all = all[len(want):]
	if tail, err := decodeStrict([]byte(g.before.torn)); err == nil && len(all) > 0 && all[0].Message == tail.Message {
		all = all[1:]
	}
	for i, l := range g.lines {
		switch {
		case !l.event:
		case len(all) > 0 && all[0].Message == l.message:
			all = all[1:]
		case i < g.settled:
			g.find(lost, "event %q was acknowledged", l.message)
			return
		}
	}
	if len(all) > 0 {
		g.find(repeated, "event %q stands twice, or out of its order", all[0].Message)
	}
}

// checkTail demands that a torn line from before is kept, somewhere.
func (g *ledger) checkTail(now *picture) {
	tail := g.before.torn
	_, err := decodeStrict([]byte(tail), "kind", "message", "timestamp", "seq")
	if err != nil && tail != "" && !strings.HasPrefix(now.torn, tail) && !strings.Contains(now.aside, tail) {
		g.find(lost, "the torn line %.60q", tail)
	}
}

func (g *ledger) checkRejects(now *picture) {
	rejects := now.rejects
	for _, old := range g.before.rejects {
		if len(rejects) == 0 || rejects[0].Error != old.Error {
			g.find(lost, "reject %q from before", old.Error)
			return
		}
		rejects = rejects[1:]
	}
	for i, l := range g.lines {
		switch {
		case !l.refused:
		case len(rejects) > 0 && strings.Contains(rejects[0].Error, l.message):
			rejects = rejects[1:]
		case i < g.settled:
			g.find(lost, "reject %q was acknowledged", l.message)
			return
		}
	}
	if len(rejects) > 0 {
		g.find(repeated, "reject %q stands twice", rejects[0].Error)
	}
}

// checkSeqFile demands that a writer which trusts the seq file alone would not
// use a seq again, unless that was so before.
func (g *ledger) checkSeqFile(now *picture) {
	last := now.lastSeq()
	if tail, err := decodeStrict([]byte(now.torn), "seq"); err == nil {
		last = max(last, tail.Seq)
	}
	fresh := len(now.all()) > len(g.before.all())
	if !g.seqGone && now.seq < last && (fresh || now.seq < g.before.seq) {
		g.find(seqTooLow, "the seq file says %q, the last event has %d", now.seqText, last)
	}
}

// checkStatus demands the last acknowledged status, or a later one, and its
// event.
func (g *ledger) checkStatus(now *picture) {
	at := g.source(now.status, g.before.status, func(l line) bool { return l.status })
	g.checkSource("status", now, now.status, at, func(l line) bool { return l.status })
	if at < 0 || !now.status.HasSeq || now.status.State != "completed" && now.status.State != "failed" {
		return
	}
	if now.result == nil || now.result.Seq < now.status.Seq {
		g.find(disagree, "the status says %s, and no result stands", now.status.State)
	}
}

// checkResult demands the same of the result, and that a verdict from before
// stands somewhere.
func (g *ledger) checkResult(now *picture) {
	isResult := func(l line) bool { return l.result }
	at := g.source(now.result, g.before.result, isResult)
	retired := now.result == nil && now.prev != nil && g.before.result != nil && g.started()
	if !retired {
		g.checkSource("result", now, now.result, at, isResult)
	}
	if old := g.before.result; old != nil && g.started() && !is(now.result, old) && !is(now.prev, old) {
		g.find(lost, "the verdict of the run before")
	}
}

// started reports whether the lines begin a run.
func (g *ledger) started() bool {
	return slices.ContainsFunc(g.lines, func(l line) bool { return strings.Contains(l.text, `"starting"`) })
}

func is(a, b *artifact) bool { return a != nil && a.Message == b.Message }

// source returns the line that wrote a, -1 if it stood before, -2 if it is
// absent and always was, and -3 if nothing explains it.
func (g *ledger) source(a, before *artifact, wrote func(line) bool) int {
	for i := len(g.lines) - 1; a != nil && i >= 0; i-- {
		if wrote(g.lines[i]) && g.lines[i].message == a.Message {
			return i
		}
	}
	switch {
	case a == nil && before == nil:
		return -2
	case a != nil && before != nil && a.Message == before.Message:
		return -1
	}
	return -3
}

func (g *ledger) checkSource(name string, now *picture, a *artifact, at int, wrote func(line) bool) {
	if at == -3 {
		g.find(lost, "%s: what stood there is gone, or replaced by what nobody wrote", name)
		return
	}
	for i := at + 1; i < g.settled; i++ {
		if i >= 0 && wrote(g.lines[i]) {
			g.find(lost, "%s %q was acknowledged", name, g.lines[i].message)
			return
		}
	}
	if at < 0 || !g.lines[at].event {
		return
	}
	event := now.byMessage(a.Message)
	if event == nil || !a.HasSeq || event.Seq != a.Seq {
		g.find(disagree, "%s has seq %d, its event is %+v", name, a.Seq, event)
	}
}

// checkHealed demands of a directory in which the next writer has been that
// no trace of a crash is left.
// What is not healed yet is named.
func (g *ledger) checkHealed(dir string, now *picture, ill ...string) {
	for _, name := range now.names {
		if temporary.MatchString(name) && len(strings.Trim(name, ".abcdefghijklmnopqrstuvwxyz")) >= 15 {
			g.find(leftOver, "%s", name)
		}
		want := os.FileMode(0o644)
		if name == "events.jsonl.seq" {
			want = 0o600
		}
		info, err := os.Lstat(filepath.Join(dir, name))
		if err == nil && !temporary.MatchString(name) && !slices.Contains(ill, name) && info.Mode() != want {
			g.find(notHealed, "%s has mode %v", name, info.Mode())
		}
	}
	if want := fmt.Sprintf("%d\n", now.lastSeq()); now.seqText != want && want != "0\n" {
		g.find(notHealed, "the seq file says %q, the last event has %s", now.seqText, want)
	}
}
