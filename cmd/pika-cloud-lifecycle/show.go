package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A view shows artifacts, a line at a time.
type view interface {
	now(p *pulled)
	event(log *pulledLog, number uint64, e *artifact.Event, line []byte)
	fault(log *pulledLog, ln *history.Line, what string)
	Err() error // of what was written so far
	Flush() error
}

// showFlags are the flags and operands of show.
type showFlags struct {
	dir    string
	paths  []string
	format string
	follow bool
	utc    bool
}

// show shows where a guest stands and what happened to it.
func (w *world) show(args []string) error {
	flags, f := flag.NewFlagSet("show", flag.ContinueOnError), new(showFlags)
	dir := w.stateDir(flags)
	flags.StringVar(&f.format, "format", "text", "")
	flags.BoolVar(&f.follow, "follow", false, "")
	flags.BoolVar(&f.utc, "utc", false, "")
	paths, err := w.parseOperands(flags, showUsage, args)
	if err == nil {
		err = checkFormat(flags, f.format)
	}
	if err != nil {
		return err
	}
	f.dir, f.paths = *dir, paths
	if f.follow {
		return w.follow(f)
	}
	p, err := pull(f.dir, f.paths)
	if err != nil {
		return err
	}
	v := w.newView(f)
	v.now(p)
	for _, log := range p.logs {
		if err := log.showAll(v); err != nil {
			return err
		}
	}
	return v.Flush()
}

// checkFormat checks --format.
func checkFormat(flags *flag.FlagSet, format string) error {
	words := []string{"text", "json"}
	if slices.Contains(words, format) {
		return nil
	}
	return badUsage("%s: --format is %q; expected text or json%s", flags.Name(), format, didYouMean(format, words))
}

// showAll shows a log to its end, and closes it.
func (l *pulledLog) showAll(v view) error {
	defer l.file.Close()
	if err := l.show(v); err != nil {
		return err
	}
	l.showRest(v)
	return nil
}

// show shows the lines of a log up to where it ends now, or its reader is gone.
func (l *pulledLog) show(v view) error {
	for {
		if err := v.Err(); err != nil {
			return err
		}
		ln, err := l.lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		l.showLine(v, &ln)
	}
}

func (l *pulledLog) showLine(v view, ln *history.Line) {
	if ln.Long {
		v.fault(l, ln, "is longer than any line that can be read")
		return
	}
	e, err := l.reader.Event(ln.Text)
	if e != nil && !l.seen(e) {
		v.event(l, ln.Number, e, l.reader.Normal())
	}
	if e != nil && err != nil {
		v.fault(l, ln, "is not an event to every reader: "+err.Error())
	} else if err != nil {
		v.fault(l, ln, "is no event: "+err.Error())
	}
}

// showRest shows what stands behind the last newline, if anything does.
func (l *pulledLog) showRest(v view) {
	ln, ok := l.lines.Rest()
	if !ok {
		return
	}
	if e, err := l.reader.Event(ln.Text); err == nil && !ln.Long {
		v.event(l, ln.Number, e, l.reader.Normal())
		v.fault(l, &ln, "has no newline: its write was cut short, or is under way")
		return
	}
	v.fault(l, &ln, fmt.Sprintf("is torn after %d bytes: its write was cut short, or is under way", len(ln.Text)))
}

// newView returns the view that the flags ask for.
func (w *world) newView(f *showFlags) view {
	to := bufio.NewWriterSize(w.stdout, sniffed)
	if f.format == "json" {
		return &jsonView{Writer: to}
	}
	v := &textView{Text: timeline.Text{To: to, Zone: time.Local}, world: w, live: len(f.paths) == 0}
	if f.utc {
		v.Zone = time.UTC
	}
	columns, terminal := columnsOf(w.stdout)
	v.Width = columns
	if n, err := strconv.Atoi(w.getenv("COLUMNS")); err == nil && n > 0 {
		v.Width = n
	}
	v.Colour = terminal && w.getenv("NO_COLOR") == "" && w.getenv("TERM") != "dumb"
	return v
}

// A textView is for people.
type textView struct {
	timeline.Text
	*world
	live bool // the artifacts may be this machine's own
}

func (v *textView) now(p *pulled) {
	now := timeline.Now{Status: p.status, Result: p.result}
	if v.live {
		now.BootID, now.Time = v.bootID(), v.clock().Time
	}
	for _, fault := range p.faults {
		v.Note(fault)
	}
	if v.live || p.dir || p.status != nil || p.result != nil { // a log alone does not tell
		v.Now(&now)
	}
}

func (v *textView) event(_ *pulledLog, _ uint64, e *artifact.Event, _ []byte) { v.Event(e) }

func (v *textView) fault(log *pulledLog, ln *history.Line, what string) {
	v.Note(fmt.Sprintf("line %d of %s %s", ln.Number, filepath.Base(log.path), what))
}

// A jsonView is for programs: one object a line.
type jsonView struct {
	*bufio.Writer
	buf []byte
}

// Err returns the first error, which a bufio.Writer keeps.
func (v *jsonView) Err() error {
	_, err := v.Write(nil)
	return err
}

func (v *jsonView) now(p *pulled) {
	for _, fault := range p.faults {
		v.Write(append(strictjson.AppendText(append(v.buf[:0], `{"error":`...), fault), '}', '\n'))
	}
	for _, whole := range []struct {
		name string
		text []byte
	}{{"status", p.statusText}, {"result", p.resultText}} {
		if whole.text != nil {
			fmt.Fprintf(v, "{%q:%s}\n", whole.name, whole.text)
		}
	}
}

func (v *jsonView) event(log *pulledLog, number uint64, _ *artifact.Event, line []byte) {
	v.begin(log, number)
	v.buf = append(append(v.buf, `,"event":`...), line...)
	v.end()
}

func (v *jsonView) fault(log *pulledLog, ln *history.Line, what string) {
	v.begin(log, ln.Number)
	v.buf = strconv.AppendInt(append(v.buf, `,"offset":`...), ln.Offset, 10)
	v.buf = strictjson.AppendText(append(v.buf, `,"error":`...), what)
	v.end()
}

func (v *jsonView) begin(log *pulledLog, number uint64) {
	v.buf = strictjson.AppendText(append(v.buf[:0], `{"file":`...), filepath.Base(log.path))
	v.buf = strconv.AppendUint(append(v.buf, `,"line":`...), number, 10)
}

func (v *jsonView) end() {
	v.buf = append(v.buf, '}', '\n')
	v.Write(v.buf)
}
