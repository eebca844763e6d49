package timeline

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// A Span is a time between two moments, in microseconds. A time.Duration has 292 years
// at most, but timestamps may be 10,000 years apart. A Span has 29 times as much, so sums
// of a few spans fit too.
type Span int64

const (
	microsecond Span = 1
	millisecond      = 1000 * microsecond
	second           = 1000 * millisecond
	minute           = 60 * second
	hour             = 60 * minute
	day              = 24 * hour
	year             = 146097 * day / 400 // the mean of the Gregorian calendar, 365.2425 days
)

// Between returns the time between two moments, each cut to milliseconds as in the
// artifacts.
func Between(from, to time.Time) Span {
	return Span(to.UnixMilli()-from.UnixMilli()) * millisecond
}

// spanOf returns a duration as a Span.
func spanOf(d time.Duration) Span { return Span(d / time.Microsecond) }

// String returns the span in seven columns at most, and a minus sign before them if it
// is negative. It is cut, not rounded. From 1000 days on it is in years.
func (s Span) String() string {
	switch {
	case s <= -millisecond:
		return "-" + (-max(s, -math.MaxInt64)).String() // the lowest Span has no positive counterpart
	case s < second:
		return fmt.Sprintf("%dms", s/millisecond)
	case s < 10*second:
		return fmt.Sprintf("%d.%03ds", s/second, s%second/millisecond)
	case s < minute:
		return fmt.Sprintf("%d.%ds", s/second, s%second/(100*millisecond))
	case s < hour:
		return fmt.Sprintf("%dm%02ds", s/minute, s%minute/second)
	case s < day:
		return fmt.Sprintf("%dh%02dm", s/hour, s%hour/minute)
	case s < 1000*day:
		return fmt.Sprintf("%dd%02dh", s/day, s%day/hour)
	case s < 1000*year:
		return fmt.Sprintf("%d.%dy", s/year, s%year/(year/10))
	}
	return fmt.Sprintf("%dy", s/year)
}

// signed returns a span with its sign.
func signed(s Span) string {
	if text := s.String(); text[0] == '-' {
		return text
	}
	return "+" + s.String()
}

// tick returns the label of a time on the axis, which is not negative.
func tick(s Span) string {
	if s >= day && s%day == 0 {
		return fmt.Sprintf("%dd", s/day)
	}
	var text string
	if s >= hour {
		text = fmt.Sprintf("%dh", s/hour)
	}
	rest := time.Duration(s%hour) * time.Microsecond
	if text != "" && rest == 0 {
		return text
	}
	text += rest.String()
	if cut, ok := strings.CutSuffix(text, "m0s"); ok {
		return cut + "m"
	}
	return text
}
