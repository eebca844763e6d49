package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/journal"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// maxEntry is the default for --max-line of rebuild. It is larger than that of ingest,
// because journalctl prints up to 20 bytes for one byte of a directive: the artifact has an
// escape of six bytes, and journalctl prints each of those as a number if the line also has a
// character that journalctl cannot print, such as DEL.
const maxEntry = 24 << 20

// rebuildMain rebuilds a state directory from the output of journalctl. It sends no
// notifications, because the events happened earlier or on another machine. If the input
// ends and the copy is empty, that is an error.
func rebuildMain(a *app, args []string) error {
	f := a.newStreamFlags("rebuild", rebuildUsage, maxEntry)
	trusted := f.String("trust-uid", "0", "")
	if err := f.parseAll(args); err != nil {
		return err
	}
	if _, err := strconv.ParseUint(*trusted, 10, 32); err != nil {
		return f.badUsage("--trust-uid is %q; expected a user ID such as 1000", *trusted)
	}
	if err := f.check(); err != nil {
		return err
	}
	if err := f.checkFD(); err != nil {
		return err
	}
	if err := f.checkAck(f.fd); err != nil {
		return err
	}
	var stopped atomic.Bool
	stop, err := stopPipe(noted(stopSignals(), &stopped), input{fd: f.fd})
	if err != nil {
		return err
	}
	s := a.newStream(f, f.fd)
	s.Stop = stop
	if err := checkNoWriter(*f.dir, s.BootID); err != nil {
		return err
	}
	source := &journal.Rebuilder{Dir: s.Dir, TrustUID: *trusted, Warn: a.warn}
	if err := source.Open(); err != nil {
		return dirError(*f.dir, err)
	}
	s.Source = source
	err = a.runStream(s)
	if err != nil || stopped.Load() {
		return err // a live copy may be stopped before the guest has sent anything
	}
	if err := source.CheckNotEmpty(); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return nil
}

// checkNoWriter returns an error if a run, ingest or rebuild writes to a directory: the
// copy would have the events of both. bootID is the ID of the current boot.
func checkNoWriter(dir, bootID string) error {
	writers, _ := writerlock.Read(dir, bootID) // after an error, nothing is known about them
	for _, w := range writers {
		if w.State == writerlock.Alive {
			return fmt.Errorf("rebuild: %s with PID %d writes to %s; stop it, or set %s to another directory", w.Kind, w.PID, dir, stateDirOption)
		}
	}
	return nil
}

// noted returns a channel that has the same signals as from. It sets got at the first one.
func noted(from <-chan os.Signal, got *atomic.Bool) <-chan os.Signal {
	to := make(chan os.Signal, cap(from))
	go func() {
		for s := range from {
			got.Store(true)
			to <- s
		}
	}()
	return to
}
