package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// The variables of the command that name the stream.
const (
	streamVar = "PIKA_LIFECYCLE_FD"   // its descriptor
	fifoVar   = "PIKA_LIFECYCLE_FIFO" // its path, with --fifo

	// streamIDVar has the device and the inode of the stream, as JOURNAL_STREAM of
	// systemd.exec(5) has those of the journal. sudo(8) and others close descriptors; the
	// number in streamVar may then be another file.
	streamIDVar = "PIKA_LIFECYCLE_STREAM"
)

// streamID returns the value of streamIDVar for a descriptor.
func streamID(fd int) string {
	var st unix.Stat_t
	_ = unix.Fstat(fd, &st)
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// drainTime is how long the stream reads on after the command has ended and the
// pipe is empty: long enough for a child of the command that ends at the same time,
// and too short to notice if a child lives on and keeps the pipe open.
const drainTime = 500 * time.Millisecond

// signalPause is how long signals are delayed after the command has ended. A
// service manager sends SIGTERM to run and to the command: the signal must not end
// the stream before the command's last lines are read. The first signal of each kind
// that arrives within the pause is ignored, because it may be the one that ended the
// command.
const signalPause = 2 * drainTime

// A supervisor starts the command of run and provides the result of its stream,
// as ingest.Supervisor.
//
// The supervisor keeps a write end of the stream open until the command has ended,
// because a command that closes its end may run for hours. Then a byte on the stop
// pipe ends the stream, and each further signal to stop adds another byte.
type supervisor struct {
	*command
	warn    func(line string)
	message string // of starting; empty for the default

	fifoPath                string // of the stream; empty if it is a pipe
	fifo                    input  // of fifoPath
	streamRead, streamWrite int
	stopRead, stopWrite     int

	tail   *outputTail // nil without --tail
	oom    oomCounter
	runs   atomic.Bool    // the command runs
	exited chan exit      // receives one exit
	terms  chan os.Signal // receives the first SIGTERM
	code   int            // exit code of the command, after Outcome
}

// runFlags are the flags of run that are not fields of the supervisor.
type runFlags struct {
	*flagSet
	dir    string
	notify string
	mirror string
	ready  readyWay
	tail   int // lines; 0 for none
}

// parseRun parses the command line of run. It sets the fields of s that come from flags.
func (a *app) parseRun(s *supervisor, args []string) (*runFlags, error) {
	f := &runFlags{flagSet: a.newFlags("run", runUsage)}
	dir := a.stateDir(f.flagSet)
	f.StringVar(&s.message, "message", "", "")
	f.StringVar(&s.fifoPath, "fifo", "", "")
	f.DurationVar(&s.timeout, "timeout", 0, "")
	f.DurationVar(&s.killAfter, "kill-after", 10*time.Second, "")
	f.BoolVar(&s.hidden, "no-argv", false, "")
	f.StringVar(&f.notify, "notify", "auto", "")
	f.StringVar(&f.mirror, "journal", "never", "")
	tail := f.String("tail", "", "")
	ready := f.String("ready", "", "")
	if err := f.parseFlags(args); err != nil {
		return nil, err
	}
	s.argv, f.dir = f.Args(), *dir
	if len(s.argv) == 0 {
		return nil, f.badUsage("expected a command after --, as in run -- make test")
	}
	if err := f.checkStateDir(f.dir); err != nil {
		return nil, err
	}
	if err := f.checkMirror(f.mirror); err != nil {
		return nil, err
	}
	if err := f.checkFIFO(s.fifoPath, f.dir); err != nil {
		return nil, err
	}
	var err error
	f.ready, err = parseReady(f.flagSet, *ready)
	if err != nil {
		return nil, err
	}
	f.tail, err = parseTail(f.flagSet, *tail)
	return f, err
}

// runMain runs a command and records how it ended.
func runMain(a *app, args []string) error {
	s := &supervisor{command: new(command), warn: a.warn, exited: make(chan exit, 1), terms: make(chan os.Signal, 1)}
	defer s.endByInterrupt()
	f, err := a.parseRun(s, args)
	if err != nil {
		return err
	}
	notifiers, err := a.newNotifiers(f.flagSet, f.notify, f.ready.notify)
	if err != nil {
		return err
	}
	defer a.closeNotifiers(notifiers)
	err = s.prepare(a, f.ready.fd)
	defer s.fifo.close()
	if err != nil {
		return err
	}
	s.keepLastOutput(f.tail)
	stream := a.supervisedStream(f.dir, s)
	s.env = notifiers.commandEnv(s.env)
	notifiers.follow(stream)
	s.expectReady(stream, f.ready, &notifiers)
	stream.Unusable = func(err error) {
		what, remedy := dirProblem(f.dir, stateDirOption, err)
		a.warn("run: " + what + "; the command runs, but nothing is recorded; " + remedy)
	}
	err = a.runMirrored(stream, f.mirror)
	if held := a.heldByRun(f.dir, err); held != nil {
		return held
	}
	if s.tail != nil {
		s.tail.flush()
	}
	if err != nil && !errors.Is(err, errRejected) {
		a.warn(err.Error()) // the exit code is the command's
	}
	return commandExit(s.code)
}

// heldByRun returns the error for a directory to which another run writes; nil if err is
// about something else. If that run has started this one, it names the outer stream.
func (a *app) heldByRun(dir string, err error) error {
	var held *writerlock.HeldError
	if !errors.As(err, &held) {
		return nil
	}
	by := "another run"
	if held.PID > 0 {
		by += " with PID " + strconv.Itoa(held.PID)
	}
	remedy := "wait until it has ended, or set " + stateDirOption + " to another directory"
	if a.getenv(streamVar) != "" || isAncestor(held.PID) {
		remedy = "start it without run and report to that run with pika-cloud-lifecycle send STATE=ready, or set --state-dir to another directory"
	}
	return &heldError{fmt.Sprintf("run: %s writes to %s, so the command was not started; %s", by, dir, remedy)}
}

// parseTail parses the value of --tail; 0 if the flag is not given.
func parseTail(f *flagSet, text string) (lines int, err error) {
	if !f.isGiven("tail") {
		return 0, nil
	}
	lines, err = strconv.Atoi(text)
	if err != nil || lines < 1 || lines > maxTailLines {
		return 0, f.badUsage("--tail is %q; expected a number of lines from 1 to %d", text, maxTailLines)
	}
	return lines, nil
}

// supervisedStream returns the stream of a supervisor.
func (a *app) supervisedStream(dir string, s *supervisor) *ingest.Stream {
	d := writer.In(dir)
	d.Events.RotateAt, d.Rejects.MaxBytes = maxEvents, maxRejected
	d.Events.Warn = a.warn
	return &ingest.Stream{
		Dir:        d,
		Clock:      a.clock,
		BootID:     a.bootID(),
		Warn:       a.warn,
		In:         s.streamRead,
		Stop:       s.stopRead,
		Grace:      drainTime,
		Supervisor: s,
	}
}

// prepare creates the pipes, and catches the signals that are for the command. readyFD is
// the descriptor of --ready, which is not for the stream.
func (s *supervisor) prepare(a *app, readyFD int) error {
	s.streamFD = freeDescriptor(readyFD)
	if s.streamFD > 9 {
		s.cannotStart = newStartError(errors.New("descriptors 3 to 9 are all open; close one for the command's stream, as in run -- COMMAND 9>&-"))
	}
	if err := s.makePipes(a); err != nil {
		a.warn("run: " + err.Error() + "; nothing is recorded")
		return commandExit(exitNotStarted)
	}
	s.path, s.umask = a.getenv("PATH"), a.umask
	s.env = append(without(os.Environ(), streamVar, streamIDVar, fifoVar), streamVar+"="+strconv.Itoa(s.streamFD), streamIDVar+"="+streamID(s.streamWrite))
	if s.fifoPath != "" {
		s.env = append(s.env, fifoVar+"="+s.fifoPath)
	}
	s.signals = make(chan os.Signal, 16)
	for _, sig := range forwardedSignals() {
		if !isIgnored(sig) {
			signal.Notify(s.signals, sig)
		}
	}
	if !isIgnored(unix.SIGTERM) {
		signal.Notify(s.terms, unix.SIGTERM)
	}
	// SIGPIPE is caught: if it were ignored, the command would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	return nil
}

// keepLastOutput passes the standard error of the command through a pipe, if some lines
// of it are to be kept.
func (s *supervisor) keepLastOutput(lines int) {
	s.stderr = 2
	if lines == 0 {
		return
	}
	tail, err := newOutputTail(lines, s.stderr)
	if err != nil {
		s.warn(fmt.Sprintf("run: --tail %d: %v; the result will not have the last output", lines, err))
		return
	}
	s.tail, s.stderr = tail, tail.write
}

// without returns env without the variables with these names.
func without(env []string, names ...string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(names, name)
	})
}

// Opening returns the transition to starting.
func (s *supervisor) Opening() *ingest.Transition {
	message := s.message
	if message == "" {
		message = "starting " + s.name()
	}
	var details strictjson.Object
	details.Texts("argv", s.shownArgv())
	return &ingest.Transition{State: artifact.Starting, Message: message, Details: details.Value()}
}

// name returns the name of the program for messages.
func (s *supervisor) name() string {
	path := s.shownArgv()[0]
	if path == "" {
		return `""`
	}
	return filepath.Base(path)
}

// Start starts the command, and warns if that fails.
func (s *supervisor) Start() {
	s.oom = newOOMCounter()
	s.runs.Store(true)
	s.run(func(e exit) {
		s.runs.Store(false)
		if e.err != nil {
			s.warn("run: " + e.err.what + "; " + e.err.remedy)
		}
		s.exited <- e
		s.fifo.settle()
		unix.Close(s.streamWrite)
		s.requestStop()
		s.fifo.closeWriters()
		go s.forwardStops()
	})
}

func (s *supervisor) requestStop() { unix.Write(s.stopWrite, []byte{0}) }

// forwardStops requests a stop of the stream for each signal to stop, after the
// command has ended: the user can interrupt the wait for a failing disk.
func (s *supervisor) forwardStops() {
	time.Sleep(signalPause)
	ignored := map[os.Signal]bool{}
	for len(s.signals) > 0 { // nothing else receives from it now
		sig := <-s.signals
		if isStop(sig) && ignored[sig] {
			s.requestStop()
		}
		ignored[sig] = true
	}
	for sig := range s.signals {
		if isStop(sig) {
			s.requestStop()
		}
	}
}

// isStop reports whether a signal requests a stop of the stream.
func isStop(sig os.Signal) bool {
	return sig == unix.SIGINT || sig == unix.SIGTERM || sig == unix.SIGHUP || sig == unix.SIGABRT
}

// Outcome waits for the command to end.
func (s *supervisor) Outcome() *ingest.Transition {
	e := <-s.exited
	s.fifo.close() // nothing is read any more: a program that opens it later must fail
	e.terminated = e.status.Signaled() && e.status.Signal() == unix.SIGTERM && s.wasTerminated()
	code, text, details := e.describe()
	s.code = code
	if e.timedOut {
		s.warn(fmt.Sprintf("run: %s ran longer than %v and was ended", s.name(), s.timeout))
	}
	left := s.addLeftRunning(&details)
	if e.err == nil && !e.hasFailed() {
		s.warnUnready(left)
	}
	kills := s.oom.kills()
	if kills > 0 {
		details.Uint("oom_kills", kills)
	}
	if output := s.lastOutput(); output != "" && code != 0 && e.err == nil {
		details.Text("last_output", output)
	}
	if e.hasFailed() {
		text += s.explainFailure(code)
	}
	t := &ingest.Transition{State: artifact.Failed, Message: s.name() + " " + text}
	if all := details.Value(); string(all) != "{}" {
		t.Details = all
	}
	if code == 0 {
		t.State = artifact.Completed
	}
	code32 := int32(code)
	t.ExitCode = &code32
	return t
}

// lastOutput returns the last lines that the command has printed; "" without --tail.
func (s *supervisor) lastOutput() string {
	if s.tail == nil {
		return ""
	}
	return s.tail.end()
}

// wasTerminated reports whether this process has received SIGTERM. It waits a moment: a
// service manager sends SIGTERM to run and to the command, so the command may have ended
// before the Go runtime delivers the signal here.
func (s *supervisor) wasTerminated() bool {
	select {
	case <-s.terms:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// explainFailure returns what the first line of a script shows about its failure, for the
// result's message, and warns about it.
func (s *supervisor) explainFailure(code int) string {
	program, _ := lookUp(s.argv[0], s.path)
	what, remedy := explainArgument(program, s.path, code)
	if what == "" {
		return ""
	}
	s.warn("run: " + program + ": " + what + "; " + remedy)
	return "; " + what
}

// hasFailed reports whether the command was started, and has exited with a failure.
func (e *exit) hasFailed() bool {
	return e.err == nil && !e.timedOut && e.status.Exited() && e.status.ExitStatus() != 0
}

// describe returns the exit code, as a shell and timeout(1) would, and the cause
// as text and as details.
func (e *exit) describe() (code int, text string, details strictjson.Object) {
	signal := signalName(e.status)
	switch {
	case e.err != nil:
		details.Text("reason", "not_started")
		return e.err.code, e.err.message, details
	case e.timedOut:
		details.Text("reason", "timeout")
		if signal != "" {
			details.Text("signal", signal)
		}
		return exitTimeout, "took too long and was ended", details
	case signal != "":
		if e.terminated {
			details.Text("reason", "terminated")
		}
		details.Text("signal", signal)
		return 128 + int(e.status.Signal()), "was ended by " + signal, details
	}
	code = e.status.ExitStatus()
	return code, "exited with " + strconv.Itoa(code), details
}

// signalName returns the name of the signal that ended a process; "" if none
// did.
func signalName(status unix.WaitStatus) string {
	if !status.Signaled() {
		return ""
	}
	name := unix.SignalName(status.Signal())
	if name == "" {
		return fmt.Sprintf("SIG%d", status.Signal()) // a real-time one
	}
	return name
}
