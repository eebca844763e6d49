package main

import (
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/journal"
)

// maxEntry is the default for --max-line of rebuild. It is larger than that of ingest,
// because journalctl prints up to 20 bytes for one byte of a directive: the artifact has an
// escape of six bytes, and journalctl prints each of those as a number.
const maxEntry = 24 << 20

// rebuildMain rebuilds a state directory from the output of journalctl. It sends no
// notifications, because the events happened earlier or on another machine.
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
	err = a.runStream(s)
	if err == nil && source.FoundNothing() {
		a.warn("rebuild: the input has no events and no results; expected the output of journalctl -o json --all, from a guest that uses --journal")
	}
	return err
}
