package timeline

import (
	"cmp"
	"slices"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// A Plot draws a timeline as one SVG. Add the events in their order, then Write.
type Plot struct {
	Title string

	boots  []*boot // the last maxBoots
	before int     // boots that are not drawn
	events int
	failed int
}

// maxBoots is how many boots are drawn: more are no picture any more.
const maxBoots = 50

// maxTold is how many events of a boot keep their texts. Of more than that none has
// a bar of its own.
const maxTold = 10_000

// A boot is what happened in one boot.
type boot struct {
	id      string
	moments []moment
	wall    bool // placed by the wall clock, for no event has its uptime

	fromFirst bool // the axis begins at the first event, not at the boot
}

// A moment is one event.
type moment struct {
	kind    writer.State
	at      Span // since boot, or since the first event where the axis begins there
	uptime  Span // 0 if it is not known
	time    time.Time
	message string
	details string
}

// Add adds an event.
func (p *Plot) Add(e *history.Event) {
	p.events++
	if e.Kind == writer.Failed {
		p.failed++
	}
	if n := len(p.boots); n == 0 || p.boots[n-1].id != e.BootID {
		p.boots = append(p.boots, &boot{id: e.BootID})
		if len(p.boots) > maxBoots {
			p.boots = slices.Delete(p.boots, 0, 1)
			p.before++
		}
	}
	b := p.boots[len(p.boots)-1]
	m := moment{kind: e.Kind, uptime: spanOf(e.Uptime), time: e.Time}
	if len(b.moments) < maxTold {
		m.message, m.details = cut(message(e.Message), 200), cut(Fold(e.Details), 400)
	}
	b.moments = append(b.moments, m)
}

// place gives each moment its place on the axis. Uptime is what counts, for no step
// of the wall clock bends it; an event that has none stands as far from one that has
// it as the wall clock says.
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

// A bar is a state over a time, or several that are too near each other to be told
// apart.
type bar struct {
	kind  writer.State
	x, w  float64
	count int
	first moment
	last  moment
	until Span      // when the next state came
	open  bool      // none came
	cuts  []float64 // where it is drawn shorter than it is
}

// room returns how much of a bar a text may take: up to where it is cut.
func (b *bar) room() float64 {
	if len(b.cuts) > 0 {
		return b.cuts[0] - 5 - b.x
	}
	return b.w
}

// isPoint reports whether a state is an end: it has a moment, and no length.
func isPoint(s writer.State) bool {
	switch s {
	case writer.Completed, writer.Failed, writer.Stopped, writer.Destroyed:
		return true
	}
	return false
}

// A lane is the bars of one state.
type lane struct {
	kind writer.State
	bars []bar
}

// lanes returns the lanes of a boot, in the order in which a guest passes the states.
func (b *boot) lanes(s *scale) (lanes []lane) {
	for _, kind := range writer.States() {
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

// bar returns the bar of one moment: up to the next one.
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

// How near bars and marks may stand, in pixels, before they are drawn as one.
const (
	tooNear  = 2
	markSize = 14
)

// add adds a bar to the lane, or to the last one there.
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

// touches reports whether next is too near to be drawn by itself.
func (b *bar) touches(next *bar) bool {
	if isPoint(b.kind) {
		return next.x-(b.x+b.w) < markSize
	}
	return next.x-(b.x+b.w) < tooNear && (b.count > 1 || b.w < 2*tooNear || next.w < 2*tooNear)
}
