package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// streamVar names the descriptor of the stream to the command.
const streamVar = "PIKA_LIFECYCLE_FD"

// lastWords is how long is read on after the command has ended and what it
// left in the pipe is read: enough for a child of its that ends with it, and not
// to be felt where one lives on and keeps the pipe open.
const lastWords = 500 * time.Millisecond

// A commandExit is the exit code of the command that run ran. Nothing is to be
// said about it.
type commandExit int

func (e commandExit) Error() string { return "exit code " + strconv.Itoa(int(e)) }

// A guard is the owner of the stream of run: it starts the command, and gives
// the verdict when that has ended.
type guard struct {
	*child
	say     func(line string)
	message string
	pipe    [2]int // to read and to write
	stop    [2]int // a byte ends the stream
	ended   chan ending
	code    int
}

// runCommand runs a command and tells how it ended.
func (w *world) runCommand(args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	g := &guard{child: new(child), say: w.say, ended: make(chan ending, 1)}
	dir := w.stateDir(flags)
	flags.StringVar(&g.message, "message", "", "")
	flags.DurationVar(&g.timeout, "timeout", 0, "")
	flags.DurationVar(&g.killAfter, "kill-after", 10*time.Second, "")
	listeners := flags.String("notify", "auto", "")
	if err := w.parseFlags(flags, runUsage, args); err != nil {
		return err
	}
	g.argv = flags.Args()
	switch {
	case len(g.argv) == 0:
		return badUsage("run: expected a command behind --, as in run -- make test")
	case *dir == "":
		return badUsage("run: --state-dir is empty")
	case g.timeout < 0 || g.killAfter < 0:
		return badUsage("run: --timeout and --kill-after take a duration that is not negative, such as 10m")
	}
	told, err := w.invite("run", *listeners)
	if err != nil {
		return err
	}
	defer w.dismiss(told)
	if err := g.prepare(w); err != nil {
		return err
	}
	if err := w.conclude(w.guarded(*dir, g, told).Run()); err != nil && !errors.Is(err, errRefused) {
		w.say(err.Error())
	}
	return commandExit(g.code)
}

// guarded returns the stream of a guard.
func (w *world) guarded(dir string, g *guard, told audience) *ingest.Stream {
	d := writer.In(dir)
	d.Events.RotateAt, d.Rejects.MaxBytes = maxEvents, maxRejected
	return &ingest.Stream{Dir: d, Clock: w.clock, BootID: w.bootID(), Warn: w.say,
		In: g.pipe[0], Stop: g.stop[0], Grace: lastWords, Supervisor: g, Followers: told.followers()}
}

// prepare makes the pipes, and takes the signals that are for the command.
func (g *guard) prepare(w *world) error {
	g.number = freeNumber()
	if g.number > 9 {
		return badUsage("run: descriptors 3 to 9 are all open; close one for the command's stream")
	}
	for _, p := range []*[2]int{&g.pipe, &g.stop} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return os.NewSyscallError("pipe", err)
		}
	}
	g.stream = g.pipe[1]
	g.path, g.umask = w.getenv("PATH"), w.umask
	g.env = append(without(os.Environ(), streamVar, "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"),
		streamVar+"="+strconv.Itoa(g.number))
	g.signals = make(chan os.Signal, 16)
	for _, s := range passed() {
		if !isIgnored(s) {
			signal.Notify(g.signals, s)
		}
	}
	// It is caught, for what is ignored stays so in the command.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	return nil
}

// freeNumber returns the first descriptor from 3 on that was not handed to us:
// those have no FD_CLOEXEC, what the runtime has opened has.
func freeNumber() int {
	for fd := 3; ; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return fd
		}
	}
}

// without returns the variables of env but those of these names.
func without(env []string, names ...string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(names, name)
	})
}

// Opening is the start of the command.
func (g *guard) Opening() *ingest.Transition {
	message := g.message
	if message == "" {
		message = "starting " + g.name()
	}
	details := []byte(`{"argv":`)
	for i, arg := range g.argv {
		details = append(details, "[,"[min(i, 1)])
		details = strictjson.AppendText(details, arg)
	}
	return &ingest.Transition{State: artifact.Starting, Message: message, Details: append(details, "]}"...)}
}

func (g *guard) name() string { return filepath.Base(g.argv[0]) }

// Opened starts the command and says why it could not. The pipe is kept open until that has ended: one
// that closes its own end may still run for hours.
func (g *guard) Start() {
	g.run(func(how ending) {
		if how.err != nil {
			g.say(fmt.Sprintf("run: %s: %v", g.argv[0], how.err))
		}
		g.ended <- how
		unix.Close(g.pipe[1])
		unix.Write(g.stop[1], []byte{0})
	})
}

// Verdict waits for the command to end.
func (g *guard) Outcome() *ingest.Transition {
	how := <-g.ended
	text, details := "", []byte(nil)
	g.code, text, details = how.explain()
	v := &ingest.Transition{State: artifact.Failed, Message: g.name() + " " + text, Details: details}
	if g.code == 0 {
		v.State = artifact.Completed
	}
	code := int32(g.code)
	v.ExitCode = &code
	return v
}

// explain tells the exit code, as a shell's or timeout(1)'s, and the cause.
func (e *ending) explain() (code int, text string, details []byte) {
	signal := signalName(e.status)
	switch {
	case errors.Is(e.err, syscall.ENOENT):
		return exitNotFound, "was not found", []byte(`{"reason":"not_started"}`)
	case e.err != nil:
		return exitNotStarted, fmt.Sprintf("cannot be run: %v", e.err), []byte(`{"reason":"not_started"}`)
	case e.timedOut && signal != "":
		return exitTimeout, "took too long and was ended", fmt.Appendf(nil, `{"reason":"timeout","signal":%q}`, signal)
	case e.timedOut:
		return exitTimeout, "took too long and was ended", []byte(`{"reason":"timeout"}`)
	case signal != "":
		return 128 + int(e.status.Signal()), "was ended by " + signal, fmt.Appendf(nil, `{"signal":%q}`, signal)
	}
	return e.status.ExitStatus(), "exited with " + strconv.Itoa(e.status.ExitStatus()), nil
}

// signalName returns the name of the signal that ended a process; "" if none
// did.
func signalName(status unix.WaitStatus) string {
	if !status.Signaled() {
		return ""
	}
	if name := unix.SignalName(status.Signal()); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", status.Signal()) // a real-time one
}
