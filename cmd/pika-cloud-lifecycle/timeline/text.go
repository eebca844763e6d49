package timeline

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Text writes a timeline for a terminal, one event at a time. After an error of To
// it writes nothing more.
type Text struct {
	To     *bufio.Writer  // required
	Zone   *time.Location // of the times; UTC if nil
	Width  int            // columns of the terminal; if 0, no line is cut or wrapped
	Colour bool

	last  artifact.Event // only its times and boot ID, from which the next step is computed
	begun bool           // an event was written
	day   string         // of the last event
	wrote bool           // a line was written
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

func (t *Text) inColour(colour, text string) string {
	if !t.Colour || colour == "" || text == "" {
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

// Current is the current status and result of a guest.
type Current struct {
	Status   *artifact.Status // nil if there is none
	Result   *artifact.Result // nil if there is none
	BootID   string           // of this boot, if the guest is this machine; else empty
	Time     time.Time        // the current time, if BootID is given
	Rejected uint64           // lines in rejected.jsonl
	Dead     []string         // the writers that have died

	StatusUnreadable bool // there is one, but it cannot be read
	ResultUnreadable bool
}

// Current writes the status and the result in full.
func (t *Text) Current(c *Current) {
	s, r := c.Status, c.Result
	switch {
	case s != nil:
		t.heading(0, "", string(s.State), colourOf(s.State), t.since(c))
		t.paragraph(2, message(s.Message))
		t.paragraph(2, Fold(s.Details))
		t.paragraph(2, identity(s))
	case c.StatusUnreadable:
		t.paragraph(0, "status unknown, because status.json cannot be read")
	default:
		t.paragraph(0, "no status")
	}
	switch {
	case r != nil:
		t.heading(0, "result: ", string(r.Outcome), colourOf(artifact.State(r.Outcome)), t.ended(r))
		if s == nil || string(s.Message) != string(r.Message) {
			t.paragraph(2, message(r.Message))
		}
		if s == nil || string(s.Details) != string(r.Details) {
			t.paragraph(2, Fold(r.Details))
		}
	case c.ResultUnreadable:
		t.paragraph(0, "result unknown, because result.json cannot be read")
	default:
		t.paragraph(0, "no result")
	}
	for _, text := range c.Dead {
		t.paragraph(0, text)
	}
	if c.Rejected > 0 && (s == nil || s.Rejected == 0) {
		t.paragraph(0, rejected(c.Rejected))
	}
}

// rejected returns how many lines were rejected, and the file that has them.
func rejected(n uint64) string {
	if n == 1 {
		return "1 line rejected, see rejected.jsonl"
	}
	return fmt.Sprintf("%d lines rejected, see rejected.jsonl", n)
}

func (t *Text) since(c *Current) string {
	s := c.Status
	since := " since " + s.Time.In(t.zone()).Format("2006-01-02 15:04:05 MST")
	switch {
	case c.BootID == "":
		return since
	case c.BootID != s.BootID:
		return since + ", in an earlier boot"
	}
	return since + ", for " + Between(s.Time, c.Time).String()
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

// identity returns the event and the boot of a status, and its rejected lines.
func identity(s *artifact.Status) string {
	var parts []string
	if s.Seq > 0 {
		parts = append(parts, fmt.Sprintf("event %d", s.Seq))
	}
	if s.BootID != "" {
		parts = append(parts, "boot "+Printable(s.BootID))
	}
	if s.Rejected > 0 {
		parts = append(parts, rejected(s.Rejected))
	}
	return strings.Join(parts, ", ")
}

// paragraph writes printable text, wrapped and indented; nothing if it is empty. The
// lines after the first are indented by 2 columns at least.
func (t *Text) paragraph(indent int, text string) { t.heading(indent, "", text, "", "") }

// heading writes before, word and after as a paragraph, with word in a colour.
func (t *Text) heading(indent int, before, word, colour, after string) {
	text := before + word + after
	if text == "" {
		return
	}
	lines := []string{text}
	if t.Width > 0 {
		lines = wrapHanging(text, max(t.Width-indent, 8), max(2-indent, 0))
	}
	if rest, ok := strings.CutPrefix(lines[0], before+word); ok && colour != "" {
		lines[0] = before + t.inColour(bold+";"+colour, word) + rest
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

// The columns of an event: time, step, uptime and state, and the message after them.
const (
	timeWidth   = 12
	stepWidth   = 1 + 8
	uptimeWidth = 1 + 8
	stateWidth  = 2 + 12
	prefix      = timeWidth + stepWidth + uptimeWidth + stateWidth + 1
)

// narrow is the smallest width at which a message is printed on the line of its event. In
// a narrower terminal it is printed below, because too little of it would fit on the line.
const narrow = 60

// How a message below its event is printed: indented, and cut after a few lines unless the
// event is a failure.
const (
	narrowIndent = 4
	narrowLines  = 3
)

// columns reports which columns fit on a line.
func (t *Text) columns() (step, uptime, message bool) {
	switch {
	case t.Width == 0 || t.Width >= narrow:
		return true, true, true
	case t.Width >= timeWidth+stepWidth+uptimeWidth+stateWidth:
		return true, true, false
	}
	return t.Width >= timeWidth+stepWidth+stateWidth, false, false
}

// row returns the columns before the message, in these colours. The state is padded
// only if the message follows.
func (t *Text) row(when, step, uptime, state, stepColour, stateColour string) string {
	hasStep, hasUptime, hasMessage := t.columns()
	var b strings.Builder
	b.WriteString(pad(when, timeWidth))
	if hasStep {
		b.WriteString(t.inColour(stepColour, pad(step, -stepWidth)))
	}
	if hasUptime {
		b.WriteString(pad(uptime, -uptimeWidth))
	}
	if hasMessage {
		state = pad(state, stateWidth-2)
	}
	b.WriteString("  ")
	b.WriteString(t.inColour(stateColour, state))
	return b.String()
}

// Event writes one event.
func (t *Text) Event(e *artifact.Event) {
	when := e.Time.In(t.zone())
	t.boundary(e, when)
	step, uptime := "", ""
	if t.begun {
		step = signed(stepOf(&t.last, e))
	}
	if e.Uptime > 0 {
		uptime = spanOf(e.Uptime).String()
	}
	t.To.WriteString(t.row(when.Format("15:04:05.000"), step, uptime, string(e.Kind), faint, colourOf(e.Kind)))
	if _, _, hasMessage := t.columns(); hasMessage {
		t.messageBeside(e)
	} else {
		t.messageBelow(e)
	}
	t.last = artifact.Event{Time: e.Time, BootID: e.BootID, Uptime: e.Uptime}
	t.begun = true
}

// messageBeside ends the line of an event with its message and details. The whole
// message of a failure is written, on more lines if it has to be.
func (t *Text) messageBeside(e *artifact.Event) {
	text, details := t.fit(e)
	t.To.WriteByte(' ')
	t.To.WriteString(text[0])
	if details != "" {
		t.To.WriteString("  ")
		t.To.WriteString(t.inColour(faint, details))
	}
	t.To.WriteByte('\n')
	for _, more := range text[1:] {
		t.line(strings.Repeat(" ", prefix) + more)
	}
}

// messageBelow writes the message of an event, and its details, on lines below it.
func (t *Text) messageBelow(e *artifact.Event) {
	t.To.WriteByte('\n')
	columns := max(t.Width-narrowIndent, 8)
	indent := strings.Repeat(" ", narrowIndent)
	if text := message(e.Message); text != "" {
		if e.Kind != artifact.Failed {
			text = cut(text, narrowLines*columns)
		}
		lines := wrap(text, columns)
		if len(lines) > narrowLines && e.Kind != artifact.Failed {
			last := cut(lines[narrowLines-1]+" "+lines[narrowLines], columns)
			lines = append(lines[:narrowLines-1], last)
		}
		for _, line := range lines {
			t.line(indent + line)
		}
	}
	if details := Fold(e.Details); details != "" {
		t.line(indent + t.inColour(faint, cut(details, columns)))
	}
}

// boundary writes a line when the boot or the day changes.
func (t *Text) boundary(e *artifact.Event, when time.Time) {
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
		header := t.row("time", "step", "uptime", "state", "", "")
		if _, _, hasMessage := t.columns(); hasMessage {
			header += " message"
		}
		t.line(t.inColour(faint, t.cut(header)))
	}
	t.line(t.inColour(faint, t.cut(day+", "+boot)))
	t.day = day
}

// stepOf returns the time between two events: from their uptimes if both have one,
// because the wall clock may have been set between them.
func stepOf(last, e *artifact.Event) Span {
	if last.Uptime > 0 && e.Uptime > 0 && last.BootID == e.BootID {
		return spanOf(e.Uptime - last.Uptime)
	}
	return Between(last.Time, e.Time)
}

// fit returns the message and the details of an event, cut so that they fit on its line.
// A long message of a failure is wrapped instead.
func (t *Text) fit(e *artifact.Event) (text []string, details string) {
	text, details = []string{message(e.Message)}, Fold(e.Details)
	room := t.Width - prefix
	if t.Width == 0 {
		return text, details
	}
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

// noteLines is how many lines of the terminal a note has at most.
const noteLines = 4

// Note writes what is wrong with a line of a file.
func (t *Text) Note(text string) {
	text = Printable(text)
	if t.Width > 0 {
		text = cut(text, noteLines*max(t.Width-2, 8))
	}
	lines := []string{text}
	if t.Width > 0 {
		lines = wrapHanging(text, t.Width, 2)
	}
	for _, line := range lines {
		t.line(t.inColour(yellow, line))
	}
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

// Flush writes the buffered text to the terminal.
func (t *Text) Flush() error { return t.To.Flush() }
