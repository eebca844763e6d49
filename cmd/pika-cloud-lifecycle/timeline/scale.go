package timeline

import (
	"cmp"
	"slices"
)

// A scale maps the time of a boot to the chart. It is linear, except that long stretches
// without an event are drawn short, with a mark, if the rest would otherwise be too narrow
// to be seen.
type scale struct {
	start, end  Span
	breaks      []stretch // in their order
	shortLength Span      // the length with which each of them is drawn
}

// A stretch is a time without an event.
type stretch struct{ from, to Span }

func (s stretch) length() Span { return s.to - s.from }

// newScale returns the scale of a boot. It starts at the boot itself, unless all events
// would then be at its far end.
func newScale(b *boot) scale {
	first, last := b.moments[0].at, b.moments[len(b.moments)-1].at
	var s scale
	if first > 2*(last-first)+10*second {
		s.start = first
	}
	s.end = last
	drawn := max(s.shorten(b), millisecond)
	s.end += drawn / 25
	if !isPoint(b.moments[len(b.moments)-1].kind) {
		s.end += drawn / 10 // for the last state, which has not ended
	}
	return s
}

// maxBreaks is the maximum number of stretches that are drawn short. With more, distances
// on the axis would have no meaning.
const maxBreaks = 3

// minGain is how many times wider the rest of the chart must become. With a smaller gain,
// no stretch is drawn short.
const minGain = 10

// shorten chooses the stretches that are drawn short, the longest first. Each must have
// at least three quarters of the time that the stretches chosen before it leave. shorten
// returns how much time the width of the chart then represents.
func (s *scale) shorten(b *boot) (drawn Span) {
	var stretches []stretch
	from := s.start
	for _, m := range b.moments {
		stretches, from = append(stretches, stretch{from, m.at}), m.at
	}
	slices.SortFunc(stretches, func(a, b stretch) int { return cmp.Compare(b.length(), a.length()) })
	left := s.end - s.start
	for _, g := range stretches {
		if len(s.breaks) == maxBreaks || g.length() < left/4*3 || g.length() == left {
			break
		}
		s.breaks = append(s.breaks, g)
		left -= g.length()
	}
	if (s.end-s.start)/minGain < left {
		s.breaks = nil
		return s.end - s.start
	}
	slices.SortFunc(s.breaks, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	s.shortLength = left / 3
	return left + Span(len(s.breaks))*s.shortLength
}

// drawnTime returns the time between the start and at. A stretch that is drawn short
// counts with the length with which it is drawn.
func (s *scale) drawnTime(at Span) Span {
	d := at - s.start
	for _, g := range s.breaks {
		if at > g.from {
			d -= min(at, g.to) - g.from
			d += Span(float64(min(at, g.to)-g.from) / float64(g.length()) * float64(s.shortLength))
		}
	}
	return d
}

// x returns the position of a time in the picture.
func (s *scale) x(at Span) float64 {
	return chartLeft + float64(s.drawnTime(at))/float64(s.drawnTime(s.end))*(chartRight-chartLeft)
}

// ticks returns the times of the lines of the grid. There are none in a stretch that is
// drawn short.
func (s *scale) ticks() (all []Span) {
	step, at := s.step(), s.start
	for i := range len(s.breaks) + 1 {
		until := s.end
		if i < len(s.breaks) {
			until = s.breaks[i].from
		}
		for at = s.start + (at-s.start+step-1)/step*step; at <= until; at += step {
			all = append(all, at)
		}
		if i < len(s.breaks) {
			at = s.breaks[i].to
		}
	}
	return all
}

// step returns the time between two lines of the grid.
func (s *scale) step() Span {
	const most = 10
	drawn := s.drawnTime(s.end)
	if step := roundStep(drawn/most, millisecond); step < minute {
		return step
	}
	for _, minutes := range []Span{1, 2, 5, 10, 15, 30, 60, 2 * 60, 3 * 60, 6 * 60, 12 * 60} {
		if drawn/(minutes*minute) <= most {
			return minutes * minute
		}
	}
	return roundStep(drawn/most, day)
}

// roundStep returns the smallest 1, 2 or 5 times a power of ten of units that is at least
// least.
func roundStep(least, unit Span) Span {
	for ; ; unit *= 10 {
		for _, n := range []Span{1, 2, 5} {
			if n*unit >= least {
				return n * unit
			}
		}
	}
}
