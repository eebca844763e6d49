package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A view prints the files of a guest.
type view interface {
	// current prints the status and the result.
	current(files *openedFiles)
	// event prints an event. text is its line in normal form.
	event(log *logFile, number uint64, e *artifact.Event, text []byte)
	// problem prints what is wrong with a line of a log.
	problem(log *logFile, p *lineProblem)
	// omitted prints how many more problems a log has.
	omitted(log *logFile, n uint64)
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
	seq    bool
	utc    bool
}

// showMain shows the state of a guest, and its events.
func showMain(a *app, args []string) error {
	flags, f := a.newFlags("show", showUsage), new(showFlags)
	dir := a.stateDir(flags)
	flags.StringVar(&f.format, "format", "text", "")
	flags.BoolVar(&f.follow, "follow", false, "")
	flags.BoolVar(&f.seq, "seq", false, "")
	flags.BoolVar(&f.utc, "utc", false, "")
	paths, err := flags.pathOperands(args)
	if err != nil {
		return err
	}
	if err := flags.checkFormat(f.format); err != nil {
		return err
	}
	f.dir, f.paths = *dir, paths
	if f.seq {
		return a.showSeq(flags, f)
	}
	if f.follow {
		return a.follow(f)
	}
	files := openFiles(f.dir, f.paths)
	defer files.close()
	v := a.newView(f)
	if files.hasFiles() {
		v.current(files)
	}
	for _, log := range files.logs {
		if err := log.showAll(v); err != nil {
			files.problems = append(files.problems, err)
		}
		if err := v.Err(); err != nil {
			return err
		}
	}
	if err := v.Flush(); err != nil {
		return err
	}
	return a.logProblems(files.problems)
}

// showSeq prints the last seq of a state directory.
func (a *app) showSeq(flags *flagSet, f *showFlags) error {
	for _, other := range []string{"follow", "format", "utc"} {
		if flags.isGiven(other) {
			return flags.badUsage("--seq prints only a number; leave out --%s", other)
		}
	}
	dir := f.dir
	if len(f.paths) > 0 {
		dir = f.paths[0]
	}
	if len(f.paths) > 1 {
		return flags.badUsage("--seq needs one state directory, not %d", len(f.paths))
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return flags.badUsage("--seq %q is a file; expected a state directory%s", dir, itsDirectory(dir))
	}
	seq, err := history.LastSeq(dir)
	if err != nil {
		return openError(err)
	}
	return a.print(strconv.FormatUint(seq, 10) + "\n")
}

// maxProblems is how many problems with the lines of a log are printed; more are
// only counted, because a file of another kind has one on each line.
const maxProblems = 10

// A lineProblem is what is wrong with a line of a log.
type lineProblem struct {
	line   uint64
	offset int64
	what   string // a predicate, such as "is not an event"
}

// lineProblems are the problems with the lines of a log. They are kept until the
// first valid event: a log without one has a single problem, which is an error.
//
// pending has at most maxProblems, and is empty once hasEvents or immediate is set.
type lineProblems struct {
	pending   []lineProblem
	count     uint64
	skipped   uint64 // lines that are not events
	hasEvents bool
	immediate bool // print each problem, however many there are, because show follows the log
}

// addProblem adds a problem, and prints it if the log has valid events.
func (l *logFile) addProblem(v view, line *history.Line, what string) {
	p := lineProblem{line.Number, line.Offset, what}
	l.problems.count++
	switch {
	case l.problems.immediate, l.problems.hasEvents && l.problems.count <= maxProblems:
		v.problem(l, &p)
	case l.problems.count <= maxProblems:
		l.problems.pending = append(l.problems.pending, p)
	}
}

// printPending prints the problems that were kept.
func (l *logFile) printPending(v view) {
	for i := range l.problems.pending {
		v.problem(l, &l.problems.pending[i])
	}
	l.problems.pending = nil
}

// printOmitted prints how many problems were not printed.
func (l *logFile) printOmitted(v view) {
	if l.problems.count > maxProblems {
		v.omitted(l, l.problems.count-maxProblems)
	}
}

// noEvents returns the error for a log that has no valid event; nil if it has one, or
// if a file of a state directory is empty.
func (l *logFile) noEvents() error {
	switch {
	case l.problems.hasEvents:
		return nil
	case len(l.problems.pending) > 0 && l.inDir:
		p := &l.problems.pending[0]
		return fmt.Errorf("%s holds no events (line %d %s); check the directory with verify", l.path, p.line, p.what)
	case len(l.problems.pending) > 0:
		p := &l.problems.pending[0]
		return fmt.Errorf("%s holds no events (line %d %s); name a state directory, or a status.json, result.json or events.jsonl",
			l.path, p.line, p.what)
	case l.inDir:
		return nil
	}
	return fmt.Errorf("%s holds no events, because it is empty; name a state directory, or a status.json, result.json or events.jsonl", l.path)
}

// showAll shows a log to its end. It returns the error of a read, or of a log without
// events.
func (l *logFile) showAll(v view) error {
	if err := l.show(v); err != nil {
		return err
	}
	incompleteOnly := l.isIncompleteOnly()
	l.showRest(v)
	if err := l.noEvents(); err != nil && !incompleteOnly {
		return err
	}
	l.printPending(v)
	l.printOmitted(v)
	return nil
}

// isIncompleteOnly reports whether the start of one line is all that a log contains. It
// may be the first event, which a writer is appending.
func (l *logFile) isIncompleteOnly() bool {
	line, ok := l.lines.Rest()
	return ok && line.Number == 1 && !line.Long && line.Text[0] == '{'
}

// show shows the complete lines of a log up to its current end. It ends early if the
// view cannot be written.
func (l *logFile) show(v view) error {
	for v.Err() == nil {
		line, err := l.lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return openError(err)
		}
		e, err := l.decoder.Event(line.Text)
		l.showLine(v, &line, e, l.decoder.Normal(), err)
	}
	return nil
}

// showLine shows a line, for which the decoder has returned e and err. normal is the normal
// form of e.
func (l *logFile) showLine(v view, line *history.Line, e *artifact.Event, normal []byte, err error) {
	switch {
	case line.Long:
		l.problems.skipped++
		l.addProblem(v, line, fmt.Sprintf("is longer than %d MiB", artifact.MaxSize>>20))
	case err == artifact.ErrNewer:
		l.problems.skipped++
		l.addProblem(v, line, err.Error())
	case e == nil:
		l.problems.skipped++
		l.addProblem(v, line, fmt.Sprintf("is not an event: %v", err))
	default:
		l.showEvent(v, line.Number, e, normal)
	}
	if e != nil && err != nil && !line.Long {
		l.addProblem(v, line, fmt.Sprintf("is an event that other programs may read differently: %v", err))
	}
}

// showEvent shows an event.
func (l *logFile) showEvent(v view, number uint64, e *artifact.Event, normal []byte) {
	l.problems.hasEvents = true
	l.printPending(v)
	v.event(l, number, e, normal)
}

// interrupted explains a last line without a newline.
const interrupted = "its write was interrupted, or is still in progress"

// showRest shows an incomplete last line, if there is one.
func (l *logFile) showRest(v view) {
	line, ok := l.lines.Rest()
	if !ok {
		return
	}
	e, err := l.decoder.Event(line.Text)
	if err == nil && !line.Long {
		l.showEvent(v, line.Number, e, l.decoder.Normal())
		l.addProblem(v, &line, "has no newline: "+interrupted)
		return
	}
	l.problems.skipped++
	l.addProblem(v, &line, fmt.Sprintf("is incomplete after %d bytes: %s", len(line.Text), interrupted))
}

// newView returns the view that the flags ask for.
func (a *app) newView(f *showFlags) view {
	to := bufio.NewWriterSize(a.stdout, 64<<10)
	if f.format == "json" {
		return &jsonView{Writer: to, app: a}
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
	live bool // the files may be the current ones of this machine
}

func (v *textView) current(files *openedFiles) {
	now := timeline.Current{Status: files.status, Result: files.result, Rejected: files.rejected,
		StatusUnreadable: files.statusUnreadable, ResultUnreadable: files.resultUnreadable}
	if v.live {
		now.BootID, now.Time = v.app.bootID(), v.app.clock().Time
	}
	for _, w := range v.app.deadWriters(files.dir) {
		now.Dead = append(now.Dead, deadText(w))
	}
	if v.live || files.isDir || files.status != nil || files.result != nil { // otherwise only a log was copied, so the status and the result are unknown
		v.Current(&now)
	}
}

func (v *textView) event(_ *logFile, _ uint64, e *artifact.Event, _ []byte) { v.Event(e) }

func (v *textView) problem(log *logFile, p *lineProblem) {
	v.Note(fmt.Sprintf("line %d of %s %s", p.line, filepath.Base(log.path), p.what))
}

func (v *textView) omitted(log *logFile, n uint64) {
	v.Note(fmt.Sprintf("%s has %s", filepath.Base(log.path), timeline.Plural(n, "more problem")))
}

// A jsonView is for programs: one object on each line.
type jsonView struct {
	*bufio.Writer
	app    *app
	object strictjson.Object // the current line
}

// Err returns the first error, which a bufio.Writer keeps.
func (v *jsonView) Err() error {
	_, err := v.Write(nil)
	return err
}

func (v *jsonView) current(files *openedFiles) {
	if files.statusText != nil {
		v.object.Raw("status", files.statusText)
		v.end()
	}
	if files.resultText != nil {
		v.object.Raw("result", files.resultText)
		v.end()
	}
	dead := v.app.deadWriters(files.dir)
	if len(dead) > 0 {
		v.object.Values("dead_writers", writerObjects(dead))
		v.end()
	}
}

func (v *jsonView) event(log *logFile, number uint64, _ *artifact.Event, text []byte) {
	v.begin(log)
	v.object.Uint("line", number)
	v.object.Raw("event", text)
	v.end()
}

func (v *jsonView) problem(log *logFile, p *lineProblem) {
	v.begin(log)
	v.object.Uint("line", p.line)
	v.object.Int("offset", p.offset)
	v.object.Text("error", p.what)
	v.end()
}

func (v *jsonView) omitted(log *logFile, n uint64) {
	v.begin(log)
	v.object.Uint("more_errors", n)
	v.end()
}

func (v *jsonView) begin(log *logFile) { v.object.Text("file", filepath.Base(log.path)) }

// end writes the current line, and empties the object for the next one.
func (v *jsonView) end() {
	v.Write(v.object.Value())
	v.WriteByte('\n')
	v.object.Reset()
}
