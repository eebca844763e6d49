package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Plot draws a timeline as one SVG. Add the events in their order, then Write.
type Plot struct {
	Title  string
	Result *artifact.Result // nil if there is none

	ResultUnreadable bool // there is a result, but it cannot be read
	ResultUnknown    bool // no directory was read, so there may be a result

	boots   []*boot // the last maxBoots
	leftOut int     // boots that are not drawn
	events  int
	failed  int
}

// Events returns how many events were added.
func (p *Plot) Events() int { return p.events }

// maxBoots is how many boots are drawn. With more, the picture would be too high to be
// read.
const maxBoots = 50

// maxTexts is how many events of a boot keep their texts. With more events, each bar
// is drawn together with others, without a text.
const maxTexts = 10_000

// A boot has the events of one boot.
type boot struct {
	id      string
	moments []moment
	wall    bool // placed by the wall clock, because no event has an uptime

	fromFirst bool // the axis begins at the first event, not at the boot
}

// A moment is one event.
type moment struct {
	kind    artifact.State
	at      Span // since boot, or since the first event if the axis begins there
	uptime  Span // 0 if it is not known
	time    time.Time
	message string
	details string
	ended   string // the exit code in the result, if this event is the result's
}

// Add adds an event.
func (p *Plot) Add(e *artifact.Event) {
	p.events++
	if e.Kind == artifact.Failed {
		p.failed++
	}
	if n := len(p.boots); n == 0 || p.boots[n-1].id != e.BootID {
		p.boots = append(p.boots, &boot{id: e.BootID})
		if len(p.boots) > maxBoots {
			p.boots = slices.Delete(p.boots, 0, 1)
			p.leftOut++
		}
	}
	b := p.boots[len(p.boots)-1]
	m := moment{kind: e.Kind, uptime: spanOf(e.Uptime), time: e.Time}
	if r := p.Result; r != nil && r.Seq == e.Seq && r.BootID == e.BootID && string(r.Outcome) == string(e.Kind) {
		m.ended = exitCode(r)
	}
	if len(b.moments) < maxTexts {
		m.message, m.details = cut(message(e.Message), 200), cut(Fold(e.Details), 400)
	}
	b.moments = append(b.moments, m)
}

// exitCode returns the exit code of a result as text; "" if it has none.
func exitCode(r *artifact.Result) string {
	if r.ExitCode == nil {
		return ""
	}
	return fmt.Sprintf("exit code %d", *r.ExitCode)
}

// place sets where each moment is on the axis: at its uptime, which does not change
// when the wall clock is set. An event without an uptime is placed relative to the last
// event that has one, or else the first, by the wall clock.
func (b *boot) place() {
	known := slices.IndexFunc(b.moments, func(m moment) bool { return m.uptime > 0 })
	b.wall = known < 0
	anchor := b.moments[max(known, 0)]
	for i := range b.moments {
		m := &b.moments[i]
		if m.uptime > 0 {
			anchor = *m
		}
		m.at = anchor.uptime + Between(anchor.time, m.time)
	}
	slices.SortStableFunc(b.moments, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	first := b.moments[0].at
	b.fromFirst = first < 0 || b.wall
	if b.fromFirst {
		for i := range b.moments {
			b.moments[i].at -= first
		}
	}
}

// A bar shows the time that a guest was in a state. It shows several such times together if
// they are too near each other to be drawn separately.
type bar struct {
	kind  artifact.State
	x, w  float64
	count int
	first moment
	last  moment
	until Span      // when the next event came
	open  bool      // no event came after it
	cuts  []float64 // the x of each stretch that is drawn short
}

// room returns how many pixels of a bar are available for a text. A text ends before the
// first cut.
func (b *bar) room() float64 {
	if len(b.cuts) > 0 {
		return b.cuts[0] - 5 - b.x
	}
	return b.w
}

// isPoint reports whether a state ends a run. It is drawn as a mark, without a length.
func isPoint(s artifact.State) bool {
	switch s {
	case artifact.Completed, artifact.Failed, artifact.Stopped, artifact.Destroyed:
		return true
	}
	return false
}

// A lane is the bars of one state.
type lane struct {
	kind artifact.State
	bars []bar
}

// lanes returns the lanes of a boot, in the order in which a guest reaches the states.
func (b *boot) lanes(s *scale) (lanes []lane) {
	for _, kind := range artifact.States() {
		l := lane{kind: kind}
		for i := range b.moments {
			if m := &b.moments[i]; m.kind == kind {
				l.add(b.bar(i, s))
			}
		}
		if l.bars != nil {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// bar returns the bar of one moment, which ends at the next moment.
func (b *boot) bar(i int, s *scale) bar {
	m := b.moments[i]
	r := bar{kind: m.kind, count: 1, first: m, last: m, until: m.at, x: s.x(m.at)}
	switch {
	case isPoint(m.kind):
	case i+1 < len(b.moments):
		r.until = b.moments[i+1].at
	default:
		r.open, r.until = true, s.end
	}
	r.w = s.x(r.until) - r.x
	for _, g := range s.breaks {
		if r.x < s.x(g.to) && m.at <= g.from && g.to <= r.until {
			r.cuts = append(r.cuts, s.x(g.from)+(s.x(g.to)-s.x(g.from))*.85)
		}
	}
	return r
}

// Bars and marks that are nearer than this, in pixels, are drawn as one.
const (
	tooNear  = 2
	markSize = 14
)

// add adds a bar to the lane, or merges it into the lane's last bar.
func (l *lane) add(b bar) {
	if n := len(l.bars); n > 0 && l.bars[n-1].touches(&b) {
		last := &l.bars[n-1]
		last.w = max(last.w, b.x+b.w-last.x)
		last.count++
		last.last, last.until, last.open, last.cuts = b.first, b.until, b.open, append(last.cuts, b.cuts...)
		return
	}
	l.bars = append(l.bars, b)
}

// touches reports whether next is too near to be drawn separately.
func (b *bar) touches(next *bar) bool {
	if isPoint(b.kind) {
		return next.x-(b.x+b.w) < markSize
	}
	return next.x-(b.x+b.w) < tooNear && (b.count > 1 || b.w < 2*tooNear || next.w < 2*tooNear)
}
