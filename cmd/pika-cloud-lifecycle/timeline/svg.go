package timeline

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// The measures of a picture, in pixels.
const (
	pageWidth    = 1200
	margin       = 24
	chartLeft    = margin + 120 // left of it are the names of the states
	chartRight   = pageWidth - margin - 16
	headHeight   = 84
	lineHeight   = 20 // of the line about the result
	bootHead     = 46 // above the lanes of a boot
	bootFoot     = 40 // below them, with the axis
	laneHeight   = 30
	leftOutWidth = 8 // of the mark for a message that is left out
	barHeight    = 18
	columnWidth  = 6.75 // width of a column of the font, which is monospaced at 11 px
)

// fillOf returns the colour of a state.
func fillOf(s artifact.State) string {
	switch s {
	case artifact.Requested:
		return "#a3adbf"
	case artifact.Provisioning:
		return "#8296c4"
	case artifact.Booted:
		return "#4d7fd1"
	case artifact.Starting:
		return "#2fa3b5"
	case artifact.Ready:
		return "#3d9e62"
	case artifact.Completed:
		return "#1e7d4f"
	case artifact.Failed:
		return "#d43d4a"
	case artifact.Unreachable:
		return "#e08a2e"
	}
	return "#7c828d"
}

// An svg is a picture while it is written.
type svg struct {
	*bufio.Writer
	y       int     // top of the next boot
	leftOut int     // messages that are not drawn
	marked  float64 // x of the last mark for such a message in the lane
}

// Write writes the picture. The head comes last, because it has the number of messages
// for which there was no space.
func (p *Plot) Write(to io.Writer) error {
	top := headHeight
	if p.resultLine() != "" {
		top += lineHeight
	}
	var body bytes.Buffer
	w := &svg{Writer: bufio.NewWriter(&body), y: top}
	for i, b := range p.boots {
		b.place()
		s := newScale(b)
		w.boot(&drawing{boot: b, scale: s, lanes: b.lanes(&s), number: p.leftOut + i + 1, of: p.leftOut + len(p.boots)})
	}
	w.Flush()
	head := &svg{Writer: bufio.NewWriter(to), leftOut: w.leftOut}
	head.begin(p, w.y)
	head.Write(body.Bytes())
	head.WriteString("</svg>\n")
	return head.Flush()
}

// A drawing is a boot with its lanes and its scale.
type drawing struct {
	*boot
	scale
	lanes      []lane
	number, of int
}

func (d *drawing) height() int { return bootHead + len(d.lanes)*laneHeight + bootFoot }

const style = `<style>
text{font:11px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#2b3140}
.title{font:600 20px system-ui,"DejaVu Sans",sans-serif}
.sub,.tick{fill:#6b7385}
.head{font-weight:700}
.in{fill:#fff}
.bad{fill:#b3202e;font-weight:700}
.card{fill:#fff;stroke:#dfe3ea}
.grid{stroke:#eceff4}
.cut{stroke:#fff;stroke-width:5}
.break{stroke:#9aa3b5;fill:none}
.lane{stroke:#f3f5f8}
.more{fill:#6b7385}
g:hover>rect.bar,g:hover>.mark{opacity:.75}
</style>
`

// begin writes the title, and the lines about the whole timeline.
func (w *svg) begin(p *Plot, height int) {
	title := Printable(p.Title)
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n",
		pageWidth, height, pageWidth, height)
	fmt.Fprintf(w, "<title>%s</title>\n%s", escape(title), style)
	w.WriteString(`<defs><linearGradient id="fade"><stop offset="0" stop-color="#fff" stop-opacity="0"/>` +
		`<stop offset="1" stop-color="#fff" stop-opacity=".9"/></linearGradient></defs>` + "\n")
	fmt.Fprintf(w, `<rect width="%d" height="%d" fill="#f6f7fa"/>`+"\n", pageWidth, height)
	w.text(margin, 40, "title", cut(title, 90))
	sub := fmt.Sprintf("%s, %s", Plural(p.events, "event"), Plural(p.leftOut+len(p.boots), "boot"))
	if p.failed > 0 {
		sub += ", " + Plural(p.failed, "failure")
	}
	if p.leftOut > 0 {
		sub += fmt.Sprintf(", of which the last %d are drawn", len(p.boots))
	}
	if w.leftOut > 0 {
		sub += fmt.Sprintf(" · %s left out at ▾; point there, or run show", Plural(w.leftOut, "message"))
	}
	w.text(margin, 62, "sub", sub)
	if line := p.resultLine(); line != "" {
		class := ""
		if p.Result != nil && p.Result.Outcome == artifact.OutcomeFailed {
			class = "bad"
		}
		w.text(margin, 62+lineHeight, class, cut(line, (pageWidth-3*margin)/7))
	}
}

// resultLine returns the line about the result; "" if it is unknown whether there is
// one.
func (p *Plot) resultLine() string {
	r := p.Result
	switch {
	case r == nil && p.ResultUnreadable:
		return "result unknown, because result.json cannot be read"
	case r == nil && p.ResultUnknown:
		return ""
	case r == nil:
		return "no result"
	}
	line := "result: " + string(r.Outcome)
	if code := exitCode(r); code != "" {
		line += ", " + code + ","
	}
	line += " at " + r.Time.UTC().Format("2006-01-02 15:04:05 UTC")
	if text := message(r.Message); text != "" {
		line += ": " + text
	}
	return line
}

// Plural returns a number with its noun, whose plural ends in s.
func Plural[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// text writes printable text.
func (w *svg) text(x, y float64, class, text string) {
	fmt.Fprintf(w, `<text x="%.1f" y="%.1f" class="%s">%s</text>`+"\n", x, y, class, escape(text))
}

// boot writes one boot.
func (w *svg) boot(d *drawing) {
	top := w.y
	w.y += d.height() + margin
	fmt.Fprintf(w, `<rect class="card" x="%d" y="%d" width="%d" height="%d" rx="8"/>`+"\n",
		margin, top, pageWidth-2*margin, d.height())
	w.text(margin+16, float64(top+26), "head", d.name())
	w.text(chartLeft, float64(top+26), "sub", d.about())
	w.grid(d, top+bootHead)
	for i := range d.lanes {
		w.lane(&d.lanes[i], top+bootHead+i*laneHeight)
	}
	w.failures(d, top+bootHead)
	w.breaks(d, top+bootHead+len(d.lanes)*laneHeight)
}

// breaks writes below the axis how long each stretch is that is drawn short.
func (w *svg) breaks(d *drawing, bottom int) {
	for _, g := range d.scale.breaks {
		fmt.Fprintf(w, `<text x="%.1f" y="%d" class="tick" text-anchor="middle">// %s //</text>`+"\n",
			(d.x(g.from)+d.x(g.to))/2, bottom+16, g.length())
	}
}

// name returns "boot", with its number if there are several boots.
func (d *drawing) name() string {
	if d.of == 1 {
		return "boot"
	}
	return fmt.Sprintf("boot %d of %d", d.number, d.of)
}

// about returns the ID of the boot, its first event, and how many events it has in how
// much time.
func (d *drawing) about() string {
	first, last := d.moments[0], d.moments[len(d.moments)-1]
	text := fmt.Sprintf("%s · %s in %s", first.time.UTC().Format("2006-01-02 15:04:05 UTC"),
		Plural(len(d.moments), "event"), last.at-first.at)
	if d.id != "" {
		text = cut(Printable(d.id), 40) + " · " + text
	}
	if d.wall {
		text += " · by the wall clock: no uptime is known"
	}
	return text
}

// grid writes the axis below the lanes, and the lines of the grid.
func (w *svg) grid(d *drawing, top int) {
	bottom := top + len(d.lanes)*laneHeight
	for _, at := range d.ticks() {
		x := d.x(at)
		fmt.Fprintf(w, `<path class="grid" d="M%.1f %dV%d"/>`+"\n", x, top, bottom+4)
		if x < chartRight-40 {
			w.text(x+2, float64(bottom+16), "tick", tick(at-d.start))
		}
	}
	unit := "since boot"
	switch {
	case d.fromFirst:
		unit = "since the first event"
	case d.start > 0:
		unit = fmt.Sprintf("since the first event, %s after boot", d.start)
	}
	fmt.Fprintf(w, `<text x="%d" y="%d" class="tick" text-anchor="end">%s</text>`+"\n", chartRight, bottom+30, unit)
}

// lane writes the name of a state and its bars.
func (w *svg) lane(l *lane, top int) {
	fmt.Fprintf(w, `<path class="lane" d="M%d %dH%d"/>`+"\n", margin+16, top+laneHeight, chartRight)
	w.text(margin+16, float64(top+19), "", string(l.kind))
	w.marked = 0
	for i := range l.bars {
		before, after := l.bars[i].x-chartLeft, float64(chartRight)
		if i > 0 {
			before = 0 // the label of the previous bar may be there
		}
		if i+1 < len(l.bars) {
			after = l.bars[i+1].x
		}
		w.bar(&l.bars[i], top, before, after)
	}
}

// bar writes a bar, or the mark of a state that ends a run, with the texts that fit.
func (w *svg) bar(b *bar, top int, before, after float64) {
	fmt.Fprintf(w, "<g><title>%s</title>\n", escape(b.tooltip()))
	y := top + (laneHeight-barHeight)/2
	end := b.x + max(b.w, 1.5)
	if isPoint(b.kind) {
		w.mark(b, float64(y))
		end = b.x + b.w + barHeight/2
	} else {
		fmt.Fprintf(w, `<rect class="bar" x="%.1f" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`+"\n",
			b.x, y, max(b.w-.5, 1.5), barHeight, fillOf(b.kind))
		for _, x := range b.cuts {
			fmt.Fprintf(w, `<path class="cut" d="M%.1f %dl4 -%d"/><path class="break" d="M%.1f %dl4 -%dm4 0l-4 %[6]d"/>`+"\n",
				x-2, y+barHeight+3, barHeight+6, x-5, y+barHeight+3, barHeight+6)
		}
		if b.open {
			fmt.Fprintf(w, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="url(#fade)"/>`+"\n", b.x+b.w*.4, y, b.w*.6+1, barHeight)
		}
	}
	drawn := w.label(b, int(before/columnWidth)-2, int((after-end-12)/columnWidth), end, float64(top+19))
	if n := b.messages(); !drawn && n > 0 {
		w.leftOut += n
		x := b.x
		if isPoint(b.kind) {
			x -= 4
		}
		if x >= w.marked+leftOutWidth { // else the previous mark is here
			w.marked = x
			fmt.Fprintf(w, `<path class="more" d="M%.1f %dl%d 0l-%d 5z"/>`+"\n", x, y-6, leftOutWidth, leftOutWidth/2)
		}
	}
	w.WriteString("</g>\n")
}

// mark writes the mark of a state that ends a run: a diamond, with a cross in it if the
// state is failed.
func (w *svg) mark(b *bar, y float64) {
	const r = barHeight / 2
	if b.w > 0 {
		fmt.Fprintf(w, `<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="4" fill="%s"/>`+"\n", b.x, y+r-2, b.w, fillOf(b.kind))
	}
	for _, x := range []float64{b.x, b.x + b.w} {
		fmt.Fprintf(w, `<path class="mark" d="M%.1f %.1fl%d %dl-%d %dl-%d -%dz" fill="%s"/>`+"\n", x, y, r, r, r, r, r, r, fillOf(b.kind))
		if b.kind == artifact.Failed {
			fmt.Fprintf(w, `<path d="M%.1f %.1fl5 5m0 -5l-5 5" stroke="#fff" stroke-width="1.6"/>`+"\n", x-2.5, y+r-2.5)
		}
	}
}

// label writes how long a bar lasted, and its message: in the bar if they fit, or else
// after it, or before a mark. before and after are how many columns are free there.
// drawn is true if label has written at least the start of the message.
func (w *svg) label(b *bar, before, after int, end, y float64) (drawn bool) {
	length, text := b.texts()
	fits := func(text string) bool { return !isPoint(b.kind) && columnWidth*float64(Columns(text))+12 < b.room() }
	switch {
	case fits(joinTexts(length, text)):
		w.text(b.x+6, y, "in", joinTexts(length, text))
		return b.count == 1
	case length != "" && fits(length):
		w.text(b.x+6, y, "in", length)
		length = ""
	}
	const few = 12 // columns: a shorter part of a message has no meaning
	class := ""
	if b.kind == artifact.Failed {
		class = "bad"
	}
	drawn = b.count == 1
	text = joinTexts(length, text)
	switch {
	case text == "":
	case Columns(text) <= after || (after >= few && after >= before):
		w.text(end+6, y, class, cut(text, after))
	case isPoint(b.kind) && b.count == 1 && before >= few:
		fmt.Fprintf(w, `<text x="%.1f" y="%.1f" class="%s" text-anchor="end">%s</text>`+"\n",
			b.x-barHeight/2-4, y, class, escape(cut(text, before)))
	case after >= few:
		w.text(end+6, y, class, cut(text, after))
	default:
		drawn = false
	}
	return drawn
}

// messages returns how many events of a bar have a message other than the state. If a bar
// has several events, only the first and the last are known: if one of these has a
// message, all are counted.
func (b *bar) messages() int {
	first := b.first.message != "" && b.first.message != string(b.kind)
	last := b.last.message != "" && b.last.message != string(b.kind)
	switch {
	case !first && !last:
		return 0
	case b.count > 1:
		return b.count
	}
	return 1
}

// texts returns how long a bar lasted, or how many events it has, and its message.
func (b *bar) texts() (length, message string) {
	switch {
	case b.count > 1:
		return fmt.Sprintf("×%d", b.count), ""
	case isPoint(b.kind) || b.open:
		return "", joinTexts(b.first.ended, b.first.message)
	}
	return (b.until - b.first.at).String(), b.first.message
}

// joinTexts joins texts that are not empty.
func joinTexts(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " · " + b
}

// failures writes a line through all lanes at each failure.
func (w *svg) failures(d *drawing, top int) {
	for _, l := range d.lanes {
		for _, b := range l.bars {
			if l.kind == artifact.Failed {
				fmt.Fprintf(w, `<path d="M%.1f %dV%d" stroke="%s" stroke-dasharray="3 3" opacity=".6"/>`+"\n",
					b.x, top, top+len(d.lanes)*laneHeight, fillOf(l.kind))
			}
		}
	}
}

// tooltip returns the text that a browser shows while the pointer is on a bar.
func (b *bar) tooltip() string {
	m := &b.first
	if b.count > 1 {
		return fmt.Sprintf("%d × %s, from %s to %s\nfirst: %s\nlast: %s", b.count, b.kind, m.at, b.last.at, m.message, b.last.message)
	}
	lines := []string{fmt.Sprintf("%s at %s, %s", b.kind, m.at, m.time.UTC().Format("2006-01-02T15:04:05.000Z"))}
	if b.until > m.at && !b.open {
		lines = append(lines, "for "+(b.until-m.at).String())
	}
	for _, text := range []string{m.ended, m.message, m.details} {
		if text != "" {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}

// escape returns printable text, which has only characters that XML allows, with its
// special characters escaped.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '"':
			b.WriteString("&quot;")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
