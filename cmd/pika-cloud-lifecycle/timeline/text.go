package timeline

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Text writes a timeline for a terminal, line by line as it comes. Its first error
// is kept, and ends it.
type Text struct {
	To     *bufio.Writer  // required
	Zone   *time.Location // of the times; UTC if nil
	Width  int            // columns of the terminal; lines are not cut if 0
	Colour bool

	last  artifact.Event // for the step to the next one; its values are not kept
	begun bool
	day   string
	wrote bool
}

// The colours, by their codes in ECMA-48.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "36"
	bold   = "1"
	faint  = "2"
)

// colourOf returns the colour of a state.
func colourOf(s artifact.State) string {
	switch s {
	case artifact.Ready, artifact.Completed:
		return green
	case artifact.Failed:
		return red
	case artifact.Unreachable:
		return yellow
	case artifact.Stopped, artifact.Destroyed:
		return faint
	}
	return blue
}

func (t *Text) in(colour, text string) string {
	if !t.Colour || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[m"
}

func (t *Text) zone() *time.Location {
	if t.Zone == nil {
		return time.UTC
	}
	return t.Zone
}

// A Now is where a guest stands.
type Now struct {
	Status *artifact.Status // nil if there is none
	Result *artifact.Result // nil if there is none
	BootID string           // of this boot, where the guest is this machine; else empty
	Time   time.Time        // now, if BootID is given
}

// Now writes where the guest stands, in full.
func (t *Text) Now(n *Now) {
	if s := n.Status; s == nil {
		t.paragraph(0, "no status")
	} else {
		t.paragraph(0, t.in(bold+";"+colourOf(s.State), string(s.State))+t.since(n))
		t.paragraph(2, message(s.Message))
		t.paragraph(2, Fold(s.Details))
		t.paragraph(2, identity(s))
	}
	if r := n.Result; r == nil {
		t.paragraph(0, "no verdict")
	} else {
		t.paragraph(0, "verdict: "+t.in(bold+";"+colourOf(artifact.State(r.Outcome)), string(r.Outcome))+t.ended(r))
		if n.Status == nil || string(n.Status.Message) != string(r.Message) {
			t.paragraph(2, message(r.Message))
		}
		if n.Status == nil || string(n.Status.Details) != string(r.Details) {
			t.paragraph(2, Fold(r.Details))
		}
	}
}

func (t *Text) since(n *Now) string {
	s := n.Status
	since := " since " + s.Time.In(t.zone()).Format("2006-01-02 15:04:05 MST")
	switch {
	case n.BootID == "":
		return since
	case n.BootID != s.BootID:
		return since + ", in an earlier boot"
	}
	return since + ", for " + Between(s.Time, n.Time).String()
}

func (t *Text) ended(r *artifact.Result) string {
	text := " at " + r.Time.In(t.zone()).Format("2006-01-02 15:04:05 MST")
	if r.ExitCode != nil {
		text = fmt.Sprintf(", exit code %d,", *r.ExitCode) + text
	}
	if r.Seq > 0 {
		text += fmt.Sprintf(", event %d", r.Seq)
	}
	return text
}

// identity tells what else a status says.
func identity(s *artifact.Status) string {
	var parts []string
	if s.Seq > 0 {
		parts = append(parts, fmt.Sprintf("event %d", s.Seq))
	}
	if s.BootID != "" {
		parts = append(parts, "boot "+Printable(s.BootID))
	}
	if s.Rejected > 0 {
		parts = append(parts, fmt.Sprintf("%d lines rejected", s.Rejected))
	}
	return strings.Join(parts, ", ")
}

// paragraph writes printable text, wrapped and indented; nothing if it is empty.
func (t *Text) paragraph(indent int, text string) {
	if text == "" {
		return
	}
	lines := []string{text}
	if t.Width > indent && indent > 0 {
		lines = wrap(text, t.Width-indent)
	}
	for _, line := range lines {
		t.line(strings.Repeat(" ", indent) + line)
	}
}

func (t *Text) line(text string) {
	t.wrote = true
	t.To.WriteString(text)
	t.To.WriteByte('\n')
}

// What the columns before the message take: time, step, uptime and kind.
const prefix = 12 + 1 + 8 + 1 + 8 + 2 + 12 + 1

// Event writes one event.
func (t *Text) Event(e *artifact.Event) {
	when := e.Time.In(t.zone())
	t.heading(e, when)
	step, uptime := "", ""
	if t.begun {
		step = signed(stepOf(&t.last, e))
	}
	if e.Uptime > 0 {
		uptime = spanOf(e.Uptime).String()
	}
	text, details := t.fit(e)
	t.To.WriteString(when.Format("15:04:05.000"))
	t.To.WriteByte(' ')
	t.To.WriteString(t.in(faint, pad(step, -8)))
	t.To.WriteByte(' ')
	t.To.WriteString(pad(uptime, -8))
	t.To.WriteString("  ")
	t.To.WriteString(t.in(colourOf(e.Kind), pad(string(e.Kind), 12)))
	t.To.WriteByte(' ')
	t.To.WriteString(text[0])
	if details != "" {
		t.To.WriteString("  ")
		t.To.WriteString(t.in(faint, details))
	}
	t.To.WriteByte('\n')
	for _, more := range text[1:] {
		t.line(strings.Repeat(" ", prefix) + more)
	}
	t.last = artifact.Event{Time: e.Time, BootID: e.BootID, Uptime: e.Uptime}
	t.begun = true
}

// heading writes a line where the boot or the day changes.
func (t *Text) heading(e *artifact.Event, when time.Time) {
	day := when.Format("2006-01-02 MST")
	if t.begun && t.day == day && t.last.BootID == e.BootID {
		return
	}
	boot := "no boot_id"
	if e.BootID != "" {
		boot = "boot " + Printable(e.BootID)
	}
	if t.wrote {
		t.line("")
	}
	if !t.begun {
		t.line(t.in(faint, pad("time", 12)+pad("step", -9)+pad("uptime", -9)+"  "+pad("state", 13)+"message"))
	}
	t.line(t.in(faint, t.cut(day+", "+boot)))
	t.day = day
}

// stepOf returns the time between two events, of the clock that nobody steps where
// both have it.
func stepOf(last, e *artifact.Event) Span {
	if last.Uptime > 0 && e.Uptime > 0 && last.BootID == e.BootID {
		return spanOf(e.Uptime - last.Uptime)
	}
	return Between(last.Time, e.Time)
}

// fit returns the message and the details of an event as they fit the line. Of a
// failure all of the message is shown, on lines of its own if need be.
func (t *Text) fit(e *artifact.Event) (text []string, details string) {
	text, details = []string{message(e.Message)}, Fold(e.Details)
	room := t.Width - prefix
	if t.Width == 0 {
		return text, details
	}
	room = max(room, 8) // a terminal that is no wider shows nothing anyway
	if Columns(text[0]) > room {
		if e.Kind != artifact.Failed {
			return []string{cut(text[0], room)}, ""
		}
		return wrap(text[0], room), ""
	}
	room -= Columns(text[0]) + 2
	if room < 3 {
		return text, ""
	}
	return text, cut(details, room)
}

// Note writes something about a line that is no event.
func (t *Text) Note(text string) {
	t.line(t.in(yellow, t.cut(Printable(text))))
}

func (t *Text) cut(text string) string {
	if t.Width == 0 {
		return text
	}
	return cut(text, t.Width)
}

// Err returns the first error, which a bufio.Writer keeps.
func (t *Text) Err() error {
	_, err := t.To.Write(nil)
	return err
}

// Flush hands on what was written.
func (t *Text) Flush() error { return t.To.Flush() }
