package main

import (
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/journal"
)

// maxEntry is the longest line of a journal by default: journalctl takes up to
// five bytes for one of a directive, and adds fields of its own.
const maxEntry = 16 << 20

// rebuildMain rebuilds a state directory from the output of journalctl. It sends
// no notifications: what it copies has happened elsewhere, or earlier.
func rebuildMain(a *app, args []string) error {
	f := a.newStreamFlags("rebuild", rebuildUsage, maxEntry)
	trusted := f.String("trust-uid", "0", "")
	if err := f.parseAll(args); err != nil {
		return err
	}
	if _, err := strconv.ParseUint(*trusted, 10, 32); err != nil {
		return f.badUsage("--trust-uid is %q; expected a number", *trusted)
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
	stop, err := stopPipe(stopSignals(), input{fd: f.fd})
	if err != nil {
		return err
	}
	s := a.newStream(f, f.fd)
	s.Stop = stop
	source := &journal.Rebuilder{Dir: s.Dir, TrustUID: *trusted, Warn: a.warn}
	if err := source.Open(); err != nil {
		return dirError(*f.dir, err)
	}
	s.Source = source
	return a.runStream(s)
}
