//go:build linux && amd64

package powerloss

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The kinds of a finding, as they are counted.
const (
	lost       = "lost"
	repeated   = "repeated"
	gap        = "gaps"
	unloadable = "unloadable"
	seqTooLow  = "seq file too low"
	disagree   = "disagreeing"
	leftOver   = "left-over temporaries"
	notHealed  = "not healed"
)

// findings are the promises that were not kept: how often each, and the first
// few in words.
type findings struct {
	kinds map[string]int
	words []string
}

func (f *findings) add(kind, format string, args ...any) {
	if f.kinds == nil {
		f.kinds = map[string]int{}
	}
	f.kinds[kind]++
	if len(f.words) < maxWords {
		f.words = append(f.words, kind+": "+fmt.Sprintf(format, args...))
	}
}

func (f *findings) none() bool { return len(f.kinds) == 0 }

// join adds those of g, of which where tells.
func (f *findings) join(g *findings, where string) {
	for kind, n := range g.kinds {
		if f.kinds == nil {
			f.kinds = map[string]int{}
		}
		f.kinds[kind] += n
	}
	for _, words := range g.words[:min(len(g.words), maxWords-min(len(f.words), maxWords))] {
		f.words = append(f.words, where+": "+words)
	}
}

// maxWords is how many findings are told: enough to see what they have in
// common.
const maxWords = 10

func (f *findings) String() string {
	var b strings.Builder
	for i, kind := range []string{lost, repeated, gap, unloadable, seqTooLow, disagree, leftOver, notHealed} {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", kind, f.kinds[kind])
	}
	return b.String()
}

// An artifact is what a strict reader takes from one status, result, event or
// reject. Nothing of it is shared with the writer.
type artifact struct {
	word, message string // the message of a reject is its error
	seq           uint64
}

// A picture is all that a state directory holds, as strict readers see it.
type picture struct {
	names                []string
	events, rejects      []artifact // of events: the rotated log first
	torn                 string     // the last line of a log, if that has no end
	aside                string     // events.jsonl.torn
	status, result, prev *artifact
	seq                  uint64 // for a writer that trusts the seq file alone
}

// look reads the artifacts, by name. Only the logs may have a torn last line.
func look(files map[string]string) (*picture, error) {
	p := &picture{names: slices.Sorted(maps.Keys(files))}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) { // events.jsonl.1 must come before
		if err := p.take(name, files[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if old := files["events.jsonl.1"]; old != "" {
		n := len(p.events) - strings.Count(old, "\n")
		p.events = slices.Concat(p.events[n:], p.events[:n])
	}
	return p, errors.Join(errs...)
}

// filesIn returns the texts of the regular files in dir, by name.
func filesIn(dir string) (map[string]string, error) {
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return files, nil
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files[e.Name()] = string(text)
	}
	return files, err
}

func (p *picture) take(name, text string) (err error) {
	switch name {
	case "status.json":
		p.status, err = decode(text, "state", "message", "updated_at")
	case "result.json":
		p.result, err = decode(text, "status", "message", "finished_at")
	case "result.json.prev":
		p.prev, err = decode(text, "status", "message", "finished_at")
	case "events.jsonl", "events.jsonl.1":
		p.events, err = p.log(p.events, text, "kind", "message", "timestamp", "seq")
	case "rejected.jsonl":
		p.rejects, err = p.log(p.rejects, text, "error", "error", "timestamp", "line", "offset")
	case "events.jsonl.torn":
		p.aside = text
	case "events.jsonl.seq":
		p.seq, err = trust(text)
	}
	return err
}

// trust reads a seq file as the Python command does. NULs, which a size that
// was durable before its data leaves behind a number that grew by a digit, make
// that command fail until our next writer was there. It uses no number twice,
// and a file that bears a lock cannot be replaced instead.
func trust(text string) (uint64, error) {
	if text = strings.Trim(text, "\x00 \n"); text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

func (p *picture) log(lines []artifact, text, word, message string, required ...string) ([]artifact, error) {
	number := 0
	for text := range strings.Lines(text) {
		if number++; !strings.HasSuffix(text, "\n") {
			p.torn += text
			break
		}
		a, err := decode(text, word, message, required...)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		lines = append(lines, *a)
	}
	return lines, nil
}

// decode reads one object as the host does: UTF-8 throughout, no name twice,
// nothing behind it, every required member there.
func decode(text, word, message string, required ...string) (*artifact, error) {
	fields, err := members(text)
	if err != nil {
		return nil, err
	}
	for _, name := range append(required, word, message, "schema_version") {
		if fields[name] == nil {
			return nil, fmt.Errorf("no %s in %.80q", name, text)
		}
	}
	a := new(artifact)
	err = errors.Join(json.Unmarshal(fields[word], &a.word), json.Unmarshal(fields[message], &a.message))
	if seq := fields["seq"]; seq != nil && err == nil {
		a.seq, err = strconv.ParseUint(string(seq), 10, 64)
	}
	return a, err
}

func members(text string) (map[string]json.RawMessage, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("invalid UTF-8")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("no object: %.80q", text)
	}
	fields := map[string]json.RawMessage{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		if fields[name.(string)] != nil {
			return nil, fmt.Errorf("%s stands twice", name)
		}
		fields[name.(string)] = bytes.Clone(value)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return fields, nil
}

// A history is what was done to a directory: all lines that were written, the
// ones that stood before first, and how many of them were acknowledged.
type history struct {
	lines   []line
	settled int
	first   uint64 // seq of the first event
	torn    string // what stood behind the last event before
	verdict bool   // a result stood before
	old     int    // lines from before
}

// check holds what came back against the history.
func (h *history) check(p *picture, f *findings) {
	h.checkEvents(p, f)
	h.checkRejects(p, f)
	h.checkStatus(p, f)
	h.checkResult(p, f)
	if last := p.last(); last > p.seq {
		f.add(seqTooLow, "it says %d, the last event has %d", p.seq, last)
	}
	if h.torn != "" && !strings.HasPrefix(p.torn, h.torn) && !strings.Contains(p.aside, h.torn) {
		f.add(lost, "the torn line from before: %q, %q", p.torn, p.aside)
	}
}

// last returns the last seq in use.
func (p *picture) last() uint64 {
	if len(p.events) == 0 {
		return 0
	}
	return p.events[len(p.events)-1].seq
}

// checkEvents demands the events in the order in which they were written, all
// of those acknowledged and no others, numbered without a gap.
func (h *history) checkEvents(p *picture, f *findings) {
	events := p.events
	for i, e := range events {
		switch want := h.first + uint64(i); {
		case e.seq < want:
			f.add(repeated, "event %d has seq %d", i+1, e.seq)
			return
		case e.seq > want:
			f.add(gap, "event %d has seq %d, expected %d", i+1, e.seq, want)
			return
		}
	}
	for i, l := range h.lines {
		switch {
		case !l.event:
		case len(events) > 0 && events[0].message == l.message && events[0].word == l.state:
			events = events[1:]
		case i < h.settled:
			f.add(lost, "event %q", l.message)
			return
		}
	}
	if len(events) > 0 {
		f.add(repeated, "event %q, or it stands out of its order", events[0].message)
	}
}

func (h *history) checkRejects(p *picture, f *findings) {
	rejects := p.rejects
	for i, l := range h.lines {
		switch {
		case !l.refused:
		case len(rejects) > 0 && strings.Contains(rejects[0].message, l.message):
			rejects = rejects[1:]
		case i < h.settled:
			f.add(lost, "reject %q", l.message)
		}
	}
	if len(rejects) > 0 {
		f.add(repeated, "reject %q", rejects[0].message)
	}
}

// source returns the line that wrote a, -1 if none did, and the last
// acknowledged one that should have, -1 if there is none.
func (h *history) source(a *artifact, wrote func(line) bool) (at, least int) {
	at, least = -1, -1
	for i, l := range h.lines {
		if !wrote(l) {
			continue
		}
		if i < h.settled {
			least = i
		}
		if a != nil && a.message == l.message && a.word == l.state {
			at = i
		}
	}
	return at, least
}

// checkStatus demands the last acknowledged status or a later one, its event,
// and the result of a verdict.
func (h *history) checkStatus(p *picture, f *findings) {
	at, least := h.source(p.status, func(l line) bool { return l.status })
	if at < least || p.status != nil && at < 0 {
		f.add(lost, "status: %+v", p.status)
		return
	}
	if at < 0 || !h.lines[at].event {
		return
	}
	h.checkEventOf("status", p.status, p, f)
	if h.lines[at].result && (p.result == nil || p.result.seq < p.status.seq && p.result.seq > 0) { // a one-shot's has none
		f.add(disagree, "the status says %s, the result is %+v", p.status.word, p.result)
	}
}

// checkResult demands the same of the result. One that stood before may have
// been set aside by the start of a run.
func (h *history) checkResult(p *picture, f *findings) {
	isResult := func(l line) bool { return l.result }
	at, least := h.source(p.result, isResult)
	before, _ := h.source(p.prev, isResult)
	retired := p.result == nil && h.started() && h.verdict && before == h.old-1 && least == h.old-1
	if !retired && (at < least || p.result != nil && at < 0) {
		f.add(lost, "result: %+v", p.result)
	}
	if h.verdict && h.started() && at != h.old-1 && before != h.old-1 {
		f.add(lost, "the verdict of the run before: %+v, %+v", p.result, p.prev)
	}
	if p.result != nil && at >= 0 && h.lines[at].event {
		h.checkEventOf("result", p.result, p, f)
	}
}

// started reports whether the lines begin a run.
func (h *history) started() bool {
	return slices.ContainsFunc(h.lines[h.old:], func(l line) bool { return l.state == "starting" })
}

func (h *history) checkEventOf(name string, a *artifact, p *picture, f *findings) {
	if !slices.ContainsFunc(p.events, func(e artifact) bool { return e.seq == a.seq && e.message == a.message }) {
		f.add(disagree, "%s %+v has no event", name, *a)
	}
}

// temporary matches what a replacement is written to before it has its name.
var temporary = regexp.MustCompile(`^\..*\d{15,}$`)

// checkHealed demands of a directory in which the next writer has been that
// nothing tells of the loss, and that nothing which came back was lost since.
func (h *history) checkHealed(before, now *picture, f *findings) {
	if len(now.events) > 0 && now.events[0].seq < h.first {
		f.add(repeated, "after the next writer the log begins with seq %d, expected at least %d", now.events[0].seq, h.first)
	}
	for _, name := range now.names {
		if temporary.MatchString(name) {
			f.add(leftOver, "%s", name)
		}
	}
	if now.torn != "" {
		f.add(notHealed, "torn line %.80q", now.torn)
	}
	if len(now.events) != len(before.events)+1 || !slices.Equal(now.events[:len(before.events)], before.events) {
		f.add(lost, "%d events, and %d after the next writer", len(before.events), len(now.events))
	}
	if len(now.rejects) != len(before.rejects)+1 {
		f.add(lost, "%d rejects, and %d after the next writer", len(before.rejects), len(now.rejects))
	}
	for i := 1; i < len(now.events); i++ {
		if now.events[i].seq != now.events[i-1].seq+1 {
			f.add(gap, "after the next writer seq %d follows %d", now.events[i].seq, now.events[i-1].seq)
		}
	}
	if now.seq != now.last() {
		f.add(notHealed, "the seq file says %d, the last event has %d", now.seq, now.last())
	}
	for name, a := range map[string]*artifact{"status": now.status, "result": now.result} {
		if a == nil || a.message != healMessage || a.seq != now.last() {
			f.add(notHealed, "the next %s is %+v", name, a)
		}
	}
}

// What the next writer is given: a line for each artifact.
const (
	healMessage = "healed"
	healLines   = "refused\n" + `{"state":"failed","message":"` + healMessage + `"}` + "\n"
)
