package main

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// ingestFlags are the flags of ingest.
type ingestFlags struct {
	*streamFlags
	fifo          string
	notify        string
	transitions   ingest.Policy
	journal       string
	requireResult bool
	exitOnResult  bool
	writeTimeout  time.Duration
	dryRun        bool

	transitionsWord string
}

func (a *app) newIngestFlags() *ingestFlags {
	f := &ingestFlags{streamFlags: a.newStreamFlags("ingest", ingestUsage, ingest.DefaultMaxLine)}
	f.StringVar(&f.fifo, "fifo", "", "")
	f.StringVar(&f.transitionsWord, "transitions", ingest.Warn.String(), "")
	f.StringVar(&f.journal, "journal", "never", "")
	f.StringVar(&f.notify, "notify", "auto", "")
	f.BoolVar(&f.requireResult, "require-result", false, "")
	f.BoolVar(&f.exitOnResult, "exit-on-result", false, "")
	f.DurationVar(&f.writeTimeout, "write-timeout", ingest.DefaultWriteTimeout, "")
	f.BoolVar(&f.dryRun, "dry-run", false, "")
	return f
}

// parse parses and checks the command line.
func (f *ingestFlags) parse(args []string) error {
	if err := f.parseAll(args); err != nil {
		return err
	}
	var ok bool
	f.transitions, ok = ingest.ParsePolicy(f.transitionsWord)
	switch {
	case !ok:
		return f.badUsage("--transitions is %q; expected warn, enforce or off", f.transitionsWord)
	case f.dryRun && f.isGiven("ack-fd"):
		return f.badUsage("--dry-run writes nothing that --ack-fd could acknowledge; leave out one of them")
	}
	if err := f.checkMirror(f.journal); err != nil {
		return err
	}
	if f.dryRun {
		f.notify = "never"
	}
	return f.check()
}

// ingestMain reads a stream of directives.
func ingestMain(a *app, args []string) error {
	f := a.newIngestFlags()
	if err := f.parse(args); err != nil {
		return err
	}
	notifiers, err := a.newNotifiers(f.flagSet, f.notify, false)
	if err != nil {
		return err
	}
	defer a.closeNotifiers(notifiers)
	signals := stopSignals() // before the FIFO is opened: a writer may wait for that, and then signal
	in, err := a.openInput(f)
	if err != nil {
		return err
	}
	defer in.close()
	s := a.newStream(f.streamFlags, in.fd)
	s.Transitions = f.transitions
	s.ManyRuns = in.manyRuns && !f.exitOnResult
	s.RequireResult = f.requireResult
	s.ExitOnResult = f.exitOnResult
	s.Service = a.serviceResult()
	s.WriteTimeout = max(f.writeTimeout, 1) // 0 means the default there
	notifiers.follow(s)
	s.Stop, err = stopPipe(signals, in)
	if err != nil {
		return err
	}
	if in.isTerminal() {
		a.warn("ingest: reading directives from the terminal; type lines such as STATE=ready MESSAGE='server is up', and Ctrl-D to end")
		if !f.isGiven("grace") {
			s.Grace = 1 // after Ctrl-C the user types the next command for the shell
		}
	}
	if f.dryRun {
		return a.dryRun(s)
	}
	startThreads()
	return a.runMirrored(s, f.journal)
}

// serviceResult returns what systemd passes to ExecStopPost= about a service that
// has ended (systemd.exec(5), $SERVICE_RESULT).
func (a *app) serviceResult() ingest.ServiceResult {
	result := a.getenv("SERVICE_RESULT")
	if result == "" {
		return ingest.ServiceResult{} // EXIT_CODE and EXIT_STATUS may then be variables of the user
	}
	return ingest.ServiceResult{Result: result, Code: a.getenv("EXIT_CODE"), Status: a.getenv("EXIT_STATUS")}
}
