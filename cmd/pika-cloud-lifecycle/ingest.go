package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// The limits of what ingest leaves on a tmpfs.
const (
	// maxEvents is some 400,000 events; two logs of it fit the /run of any guest.
	maxEvents = 64 << 20
	// maxRejected shows what went wrong many times over.
	maxRejected = 8 << 20
)

// ingestFlags are the flags of ingest.
type ingestFlags struct {
	*flag.FlagSet
	dir         *string
	fd, ack     int
	fifo        string
	notify      string
	from        string
	trusted     string
	transitions string
	policy      ingest.Policy // of transitions
	journal     string
	required    bool
	onResult    bool
	grace       time.Duration
	timeout     time.Duration
	maxLine     int
	maxEvents   int64
	maxRejected int64
	dryRun      bool
}

func (w *world) newIngestFlags() *ingestFlags {
	f := &ingestFlags{FlagSet: flag.NewFlagSet("ingest", flag.ContinueOnError)}
	f.dir = w.stateDir(f.FlagSet)
	f.IntVar(&f.fd, "fd", 0, "")
	f.StringVar(&f.fifo, "fifo", "", "")
	f.IntVar(&f.ack, "ack-fd", -1, "")
	f.StringVar(&f.from, "from", fromDirectives, "")
	f.StringVar(&f.trusted, "trust-uid", "0", "")
	f.StringVar(&f.transitions, "transitions", ingest.Warn.String(), "")
	f.StringVar(&f.journal, "journal", "never", "")
	f.StringVar(&f.notify, "notify", "auto", "")
	f.BoolVar(&f.required, "require-result", false, "")
	f.BoolVar(&f.onResult, "exit-on-result", false, "")
	f.DurationVar(&f.grace, "grace", ingest.DefaultGrace, "")
	f.DurationVar(&f.timeout, "write-timeout", ingest.DefaultWriteTimeout, "")
	f.IntVar(&f.maxLine, "max-line", ingest.DefaultMaxLine, "")
	f.Int64Var(&f.maxEvents, "max-events", maxEvents, "")
	f.Int64Var(&f.maxRejected, "max-rejected", maxRejected, "")
	f.BoolVar(&f.dryRun, "dry-run", false, "")
	return f
}

// check checks the values that the flag package cannot.
func (f *ingestFlags) check() error {
	var ok bool
	if f.policy, ok = ingest.ParsePolicy(f.transitions); !ok {
		return badUsage("ingest: --transitions is %q; expected warn, enforce or off", f.transitions)
	}
	switch {
	case f.grace < 0 || f.timeout < 0:
		return badUsage("ingest: --grace and --write-timeout take a duration that is not negative, such as 5s")
	case f.maxLine < 1 || f.maxLine > maxMaxLine:
		return badUsage("ingest: --max-line is %d; expected 1 to %d bytes", f.maxLine, maxMaxLine)
	case f.maxEvents < 0 || f.maxRejected < 0:
		return badUsage("ingest: --max-events and --max-rejected take a number of bytes that is not negative")
	case *f.dir == "":
		return badUsage("ingest: --state-dir is empty")
	}
	if err := cmp.Or(checkMirror("ingest", f.journal), f.checkSource()); err != nil {
		return err
	}
	if !given(f.FlagSet, "ack-fd") {
		return nil
	}
	if f.dryRun {
		return badUsage("ingest: --dry-run takes no --ack-fd: what is not written cannot be acknowledged")
	}
	return checkDescriptor("--ack-fd", f.ack, unix.O_RDONLY, "writing")
}

// maxMaxLine keeps the memory of a stream, which grows with its longest line,
// from being set beyond what any guest has.
const maxMaxLine = 256 << 20

// checkDescriptor checks that fd is open and that its access mode is not the
// wrong one. It must be called before anything is opened that could take a
// number that the caller forgot to redirect.
func checkDescriptor(name string, fd int, wrong int, use string) error {
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if fd < 0 || err != nil {
		return badUsage("ingest: %s %d is not an open descriptor; redirect it where ingest is started", name, fd)
	}
	if mode&unix.O_ACCMODE == wrong {
		return badUsage("ingest: %s %d is not open for %s", name, fd, use)
	}
	return nil
}

// parseIngest parses the command line of ingest.
func (w *world) parseIngest(args []string) (*ingestFlags, error) {
	f := w.newIngestFlags()
	if err := w.parse(f.FlagSet, ingestUsage, args); err != nil {
		return nil, err
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.dryRun || f.from == fromJournal {
		f.notify = "never" // for nothing is done, or another guest's doing is copied
	}
	return f, nil
}

// ingest reads a stream of directives.
func (w *world) ingest(args []string) error {
	f, err := w.parseIngest(args)
	if err != nil {
		return err
	}
	told, err := w.invite("ingest", f.notify)
	if err != nil {
		return err
	}
	defer w.dismiss(told)
	signals := endings() // before a FIFO is opened, for which a writer waits
	in, err := w.openInput(f)
	if err != nil {
		return err
	}
	defer in.close()
	s, err := w.newStream(f, in)
	if err != nil {
		return err
	}
	s.Followers = told.followers()
	if s.Stop, err = stopOn(signals, in); err != nil {
		return err
	}
	if f.dryRun {
		return w.rehearse(s)
	}
	return w.runMirrored(s, f.journal)
}

// newStream returns the stream that the flags ask for.
func (w *world) newStream(f *ingestFlags, in input) (s *ingest.Stream, err error) {
	dir := writer.In(*f.dir)
	dir.Events.RotateAt, dir.Rejects.MaxBytes = f.maxEvents, f.maxRejected
	s = &ingest.Stream{Dir: dir, Clock: w.clock, BootID: w.bootID(), Warn: w.say,
		In: in.fd, Ack: max(f.ack, 0), Transitions: f.policy, MaxLine: f.maxLine, ManyRuns: in.manyRuns && !f.onResult,
		RequireResult: f.required, Service: w.cause(), ExitOnResult: f.onResult, WriteTimeout: max(f.timeout, 1), Grace: max(f.grace, 1)} // for 0 means the default there
	if f.from == fromJournal {
		s.Source, err = w.openJournal(f, dir)
	}
	if f.dryRun || isTerminal(w.stderr) {
		s.ShowRejected = w.showRefused
	}
	return s, err
}

// cause is what systemd tells to what it runs when a service has ended
// (systemd.exec(5), $SERVICE_RESULT): there a stream is the backstop.
func (w *world) cause() ingest.ServiceResult {
	if w.getenv("SERVICE_RESULT") == "" {
		return ingest.ServiceResult{} // the other two may be anybody's
	}
	return ingest.ServiceResult{Result: w.getenv("SERVICE_RESULT"), Code: w.getenv("EXIT_CODE"), Status: w.getenv("EXIT_STATUS")}
}

// conclude says how the stream went and returns what the exit code is for.
func (w *world) conclude(sum ingest.Summary, err error) error {
	if sum.Rejected > 0 {
		w.say(fmt.Sprintf("%d of %d lines refused", sum.Rejected, sum.Lines))
	}
	switch {
	case sum.Dropped > 0:
		return errors.Join(err, fmt.Errorf("%d events and refused lines were lost", sum.Dropped))
	case sum.Degraded:
		return errors.Join(err, errors.New("the artifacts could not be written in time"))
	case err != nil:
		return err
	case sum.Rejected > 0:
		return errRefused
	}
	return nil
}

// endings returns the signals that ask the stream to end.
func endings() <-chan os.Signal {
	signal.Ignore(syscall.SIGPIPE) // a reader of acks or stderr may go
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		if !signal.Ignored(s) { // as nohup(1) and a shell's & ask for
			signal.Notify(signals, s)
		}
	}
	return signals
}

// stopOn returns a descriptor from which a byte can be read for each signal that
// counts. A FIFO that is kept open then is no more: it ends with its last writer.
func stopOn(signals <-chan os.Signal, in input) (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe", err)
	}
	go func() {
		spare := isPipe(in.fd) && !in.manyRuns
		for s := range signals {
			if s == syscall.SIGINT && spare {
				spare = false
				continue
			}
			unix.Write(pipe[1], []byte{0})
			if in.keep > 0 {
				unix.Close(in.keep)
				in.keep = 0
			}
		}
	}()
	return pipe[0], nil
}

// isPipe reports whether fd is a pipe. Then Ctrl-C, which reaches the whole
// foreground group, is meant for the program that writes to it: what that says
// while it ends is to be read.
func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}
