package main

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A view prints artifacts, one line for each.
type view interface {
	// current prints the status and the result.
	current(files *openedFiles)
	// event prints an event. text is its line in normal form.
	event(log *logFile, number uint64, e *artifact.Event, text []byte)
	// problem prints what is wrong with a line of a log.
	problem(log *logFile, line *history.Line, what string)
	// Err returns the first error of a write.
	Err() error
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

// showMain shows the state of a guest and what happened to it.
func showMain(a *app, args []string) error {
	flags, f := a.newFlags("show", showUsage), new(showFlags)
	dir := a.stateDir(flags)
	flags.StringVar(&f.format, "format", "text", "")
	flags.BoolVar(&f.follow, "follow", false, "")
	flags.BoolVar(&f.utc, "utc", false, "")
	paths, err := flags.parseOperands(args)
	if err != nil {
		return err
	}
	if err := flags.checkFormat(f.format); err != nil {
		return err
	}
	f.dir, f.paths = *dir, paths
	if f.follow {
		return a.follow(f)
	}
	files, err := openFiles(f.dir, f.paths)
	if err != nil {
		return err
	}
	v := a.newView(f)
	v.current(files)
	for _, log := range files.logs {
		if err := log.showAll(v); err != nil {
			return err
		}
	}
	return v.Flush()
}

// showAll shows a log to its end, and closes it.
func (l *logFile) showAll(v view) error {
	defer l.file.Close()
	if err := l.show(v); err != nil {
		return err
	}
	l.showRest(v)
	return nil
}

// show shows the complete lines of a log up to its current end.
func (l *logFile) show(v view) error {
	for {
		if err := v.Err(); err != nil {
			return err
		}
		line, err := l.lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		l.showLine(v, &line)
	}
}

func (l *logFile) showLine(v view, line *history.Line) {
	if line.Long {
		v.problem(l, line, "is longer than any line that can be read")
		return
	}
	e, err := l.decoder.Event(line.Text)
	if e == nil {
		v.problem(l, line, fmt.Sprintf("is no event: %v", err))
		return
	}
	if !l.wasShown(e) {
		v.event(l, line.Number, e, l.decoder.Normal())
	}
	if err != nil {
		v.problem(l, line, "is not an event to every reader: "+err.Error())
	}
}

// showRest shows an incomplete last line, if there is one.
func (l *logFile) showRest(v view) {
	line, ok := l.lines.Rest()
	if !ok {
		return
	}
	e, err := l.decoder.Event(line.Text)
	if err == nil && !line.Long {
		v.event(l, line.Number, e, l.decoder.Normal())
		v.problem(l, &line, "has no newline: its write was cut short, or is under way")
		return
	}
	v.problem(l, &line, fmt.Sprintf("is torn after %d bytes: its write was cut short, or is under way", len(line.Text)))
}

// newView returns the view that the flags ask for.
func (a *app) newView(f *showFlags) view {
	to := bufio.NewWriterSize(a.stdout, 64<<10)
	if f.format == "json" {
		return &jsonView{Writer: to}
	}
	v := &textView{Text: timeline.Text{To: to, Zone: time.Local}, app: a, live: len(f.paths) == 0}
	if f.utc {
		v.Zone = time.UTC
	}
	columns, terminal := columnsOf(a.stdout)
	v.Width = columns
	n, err := strconv.Atoi(a.getenv("COLUMNS"))
	if err == nil && n > 0 {
		v.Width = n
	}
	v.Colour = terminal && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
	return v
}

// A textView is for people.
type textView struct {
	timeline.Text
	app  *app
	live bool // the files may be those of this machine, now
}

func (v *textView) current(files *openedFiles) {
	now := timeline.Now{Status: files.status, Result: files.result}
	if v.live {
		now.BootID, now.Time = v.app.bootID(), v.app.clock().Time
	}
	for _, problem := range files.problems {
		v.Note(problem)
	}
	if v.live || files.isDir || files.status != nil || files.result != nil { // a log alone does not tell
		v.Now(&now)
	}
}

func (v *textView) event(_ *logFile, _ uint64, e *artifact.Event, _ []byte) { v.Event(e) }

func (v *textView) problem(log *logFile, line *history.Line, what string) {
	v.Note(fmt.Sprintf("line %d of %s %s", line.Number, filepath.Base(log.path), what))
}

// A jsonView is for programs: one object a line.
type jsonView struct {
	*bufio.Writer
	object strictjson.Object // the current line
}

// Err returns the first error, which a bufio.Writer keeps.
func (v *jsonView) Err() error {
	_, err := v.Write(nil)
	return err
}

func (v *jsonView) current(files *openedFiles) {
	for _, problem := range files.problems {
		v.object.Text("error", problem)
		v.end()
	}
	if files.statusText != nil {
		v.object.Raw("status", files.statusText)
		v.end()
	}
	if files.resultText != nil {
		v.object.Raw("result", files.resultText)
		v.end()
	}
}

func (v *jsonView) event(log *logFile, number uint64, _ *artifact.Event, text []byte) {
	v.begin(log, number)
	v.object.Raw("event", text)
	v.end()
}

func (v *jsonView) problem(log *logFile, line *history.Line, what string) {
	v.begin(log, line.Number)
	v.object.Int("offset", line.Offset)
	v.object.Text("error", what)
	v.end()
}

func (v *jsonView) begin(log *logFile, number uint64) {
	v.object.Text("file", filepath.Base(log.path))
	v.object.Uint("line", number)
}

// end writes the current line, and empties the object for the next one.
func (v *jsonView) end() {
	v.Write(v.object.Value())
	v.WriteByte('\n')
	v.object.Reset()
}
