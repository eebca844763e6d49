package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Rebuilder is the ingest.Source of a stream that rebuilds a state directory,
// the copy, from journal entries. Its input is the output of journalctl -o json
// --all. It ignores entries other than events and results.
//
// Entries may be repeated, within a stream or in a later one: the Rebuilder drops
// an entry that the copy has already. It identifies an event or a result by
// machine, events path, boot and seq.
//
// Events are ordered by seq. An event that arrives early is buffered until the
// earlier ones have arrived, for up to maxDelay; then the Rebuilder warns about
// the missing ones and continues without them.
//
// Call Open first. A Rebuilder must not be used concurrently.
//
// In these invariants, "written" means that the copy or ready has the event or
// result:
//   - All entries of the stream have the machine and events path of origin,
//     which is nil until the first entry.
//   - bootID is the current boot. It changes only when an event of another boot
//     arrives. Before the first event it is the boot of the first entry, or of the
//     copy's result.
//   - lastSeq is the seq of the last written event of the current log, or 0 if
//     there is none. statusSeq is the seq of the written status, or 0 if there is
//     none of bootID.
//   - endedBoots are the earlier boots. Their entries are dropped. bootID is not
//     one of them.
//   - buffer has only entries of bootID. After release, all have a higher seq
//     than lastSeq, and the event lastSeq+1 is not among them.
//   - endedBoot and newLog are set when bootID changes, and cleared when the first
//     event of the new boot is ready.
//   - lastResultSeq is the highest seq of a written result of bootID, and
//     lastResultTime the latest time of any written result. otherBootResultTime is
//     the time of the last written result of a boot that is neither bootID nor
//     ended, because none of its events has arrived. Each is zero if there is no
//     such result.
//   - missing are the seqs below lastSeq that are not in the current log, and have not
//     arrived in this stream. Of the gaps that the log had when Open was called, it has
//     the first maxWarnings.
type Rebuilder struct {
	Dir      *writer.Dir       // the copy; required
	TrustUID string            // decimal ID of a user whose entries are accepted, besides root's; optional
	Warn     func(line string) // called with each warning, such as about missing seqs; optional

	json         strictjson.Normaliser
	origin       *entry
	warnedOfUser bool // warnOfUser has warned
	warned       bool // a warning has been logged

	bootID     string
	lastSeq    uint64
	statusSeq  uint64
	endedBoots map[string]bool
	endedBoot  string
	newLog     bool

	lastResultSeq       uint64
	lastResultTime      time.Time
	otherBootResultTime time.Time

	buffer       buffer
	missing      []seqRange
	warnedRanges int              // number of ranges of missing seqs, including those not listed
	ready        []*ingest.Record // for Next to return
}

// Open reads the log, the results and the status of the copy.
func (b *Rebuilder) Open() error {
	unlock, err := b.Dir.Events.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	b.lastSeq, b.bootID, err = b.Dir.Events.Last()
	if err != nil {
		return err
	}
	b.missing, err = gaps(filepath.Dir(b.Dir.Events.Path))
	if err != nil {
		return err
	}
	boots, err := b.Dir.Boots.Read()
	if err != nil {
		return err
	}
	b.endedBoots = make(map[string]bool)
	for _, boot := range boots {
		b.endedBoots[boot] = true
	}
	status, err := optional(b.Dir.Status.Read())
	if err != nil {
		return err
	}
	if status != nil && status.BootID == b.bootID {
		b.statusSeq = status.Seq
	}
	return b.openResults(status)
}

// gaps returns the first maxWarnings ranges of seqs that are missing from the log in dir. If
// the log was rotated, the seqs before its first event are not missing.
func gaps(dir string) (missing []seqRange, err error) {
	f, err := dirfs.Open(dir, writer.EventsName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, err = os.Lstat(filepath.Join(dir, writer.OldEventsName))
	wasRotated := err == nil
	var d artifact.Decoder
	var last uint64
	for lines := (history.Lines{From: f}); len(missing) < maxWarnings; {
		line, err := lines.Next()
		if err == io.EOF {
			return missing, nil
		}
		if err != nil {
			return nil, err
		}
		seq, ok := d.LineSeq(line.Text)
		if !ok {
			continue
		}
		isFirst := last == 0 && wasRotated
		if !isFirst && seq > last+1 {
			missing = append(missing, seqRange{last + 1, seq - 1})
		}
		last = seq
	}
	return missing, nil
}

// CheckNotEmpty returns an error if the copy has no event and no result.
func (b *Rebuilder) CheckNotEmpty() error {
	switch {
	case b.lastSeq > 0 || !b.lastResultTime.IsZero():
		return nil
	case b.warned:
		return errors.New("nothing was rebuilt; see the warnings above")
	case b.origin != nil:
		return fmt.Errorf("nothing was rebuilt, because all entries are of the boots in %s; rebuild into an empty directory", b.Dir.Boots.Path)
	}
	return errors.New("the input has no events and no results; expected the output of journalctl -o json --all, from a guest that uses --journal")
}

// openResults reads the current and the previous result. Both show which results
// the copy has had.
func (b *Rebuilder) openResults(status *artifact.Status) error {
	current, err := optional(b.Dir.Result.Read())
	if err != nil {
		return err
	}
	previousFile := writer.ResultFile{Path: b.Dir.Result.Path + ".prev"}
	previous, err := optional(previousFile.Read())
	if err != nil {
		return err
	}
	for _, result := range []*artifact.Result{current, previous} {
		if result != nil {
			b.bootID = cmp.Or(b.bootID, result.BootID) // a copy may have a result and no event
			b.noteResult(result)
		}
	}
	if current != nil && b.isStale(current, status) {
		b.ready = append(b.ready, &ingest.Record{StaleResult: true})
	}
	return nil
}

// optional returns nil instead of an error if the file does not exist.
func optional[T any](v *T, err error) (*T, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return v, err
}

// isStale reports whether the current result belongs to an earlier run or boot, because
// the stream crashed before it moved the result to result.json.prev. A result whose boot
// differs from that of the status is not stale for this reason alone, because a boot may
// have a result and no event.
func (b *Rebuilder) isStale(r *artifact.Result, s *artifact.Status) bool {
	if b.endedBoots[r.BootID] {
		return true
	}
	return s != nil && artifact.SameBoot(r.BootID, s.BootID) && !r.IsOf(s)
}

// Add implements ingest.Source. It returns an error if the line is not a journal
// entry, if the event or result is invalid, or if it comes from another machine or
// events log than the first entry.
func (b *Rebuilder) Add(line []byte, now time.Time) error {
	raw, err := parseLine(&b.json, line)
	if err != nil {
		return err
	}
	f, ok := raw.artifactField()
	if !ok {
		return nil
	}
	uid, err := raw.text(fieldUID)
	if err != nil {
		return err
	}
	if !b.isTrusted(uid) {
		b.warnOfUser(uid)
		return nil
	}
	if !raw.isComplete(f) {
		b.warn("an event or result is left out because its journal entry is incomplete; to include it, rebuild from the guest's own journal into an empty directory")
		return nil
	}
	e, err := raw.decode(f)
	if err != nil {
		return err
	}
	if b.origin == nil {
		b.origin = e
	}
	if err := b.checkOrigin(e); err != nil {
		return err
	}
	if e.bootID == "" {
		e.bootID = b.bootID
	}
	if !b.endedBoots[e.bootID] {
		b.handle(e, len(line), now)
	}
	return nil
}

// isTrusted reports whether entries of a user are accepted. Any user can send an
// entry with any fields except _UID, which journald sets.
func (b *Rebuilder) isTrusted(uid string) bool {
	return uid == "0" || (uid != "" && uid == b.TrustUID)
}

// warnOfUser warns once per stream that a user's entries are ignored.
func (b *Rebuilder) warnOfUser(uid string) {
	if b.warnedOfUser {
		return
	}
	b.warnedOfUser = true
	if uid == "" {
		b.warn("entries without _UID are ignored; expected the output of journalctl -o json --all")
	} else {
		b.warn("the entries of user %.10q are ignored; if ingest runs as this user, add --trust-uid with its number", uid)
	}
}

func (b *Rebuilder) warn(format string, args ...any) {
	b.warned = true
	if b.Warn != nil {
		b.Warn(fmt.Sprintf(format, args...))
	}
}

// checkOrigin checks that e has the machine and events path of origin.
func (b *Rebuilder) checkOrigin(e *entry) error {
	if e.machineID != b.origin.machineID {
		return fmt.Errorf("the entry is from machine %.40q, but the first one is from %.40q; rebuild each machine into its own directory, with journalctl _MACHINE_ID=%.40s",
			e.machineID, b.origin.machineID, e.machineID)
	}
	if e.eventsPath != b.origin.eventsPath {
		return fmt.Errorf("the entry is from the log %.80q, but the first one is from %.80q; rebuild each log into its own directory, with journalctl PIKA_EVENTS_PATH=%.80s",
			e.eventsPath, b.origin.eventsPath, e.eventsPath)
	}
	return nil
}

// handle buffers e, makes it ready, or drops it. The boot of e must not have ended.
func (b *Rebuilder) handle(e *entry, size int, now time.Time) {
	if b.bootID == "" {
		b.bootID = e.bootID
	}
	if e.event != nil && e.bootID != b.bootID {
		b.startBoot(e)
	}
	switch {
	case e.bootID == b.bootID && e.seq > b.lastSeq:
		b.buffer.add(bufferedEntry{e, size, now})
	case e.result != nil:
		b.addResult(e)
	case e.seq == b.lastSeq && e.seq > b.statusSeq:
		// The stream crashed after it had written the log and before it wrote the status.
		b.ready = append(b.ready, &ingest.Record{Event: e.event, Known: true})
		b.statusSeq = e.seq
	default:
		b.warnIfMissing(e.seq)
	}
}

// startBoot ends the current boot and starts the boot of e, an event. If the seqs
// start again, the guest has lost its directory, and e belongs to a new log.
func (b *Rebuilder) startBoot(e *entry) {
	b.release(time.Time{}, true)
	b.endedBoots[b.bootID] = true
	b.endedBoot, b.newLog = b.bootID, e.seq <= b.lastSeq
	if b.newLog {
		b.lastSeq, b.missing = 0, nil
	}
	b.bootID = e.bootID
	b.lastResultSeq, b.otherBootResultTime = 0, time.Time{}
}

// release makes buffered entries ready. It stops at an entry before which one is missing,
// unless the entry is overdue or flush is true.
func (b *Rebuilder) release(now time.Time, flush bool) {
	for !b.buffer.isEmpty() {
		e := b.buffer.first()
		isNext := e.seq <= b.lastSeq || (e.event != nil && e.seq == b.lastSeq+1)
		if !isNext && !flush && !b.buffer.isOverdue(now) {
			return
		}
		b.buffer.removeFirst()
		if e.event != nil {
			b.addEvent(e)
		} else {
			b.addResult(e)
		}
	}
}

// addEvent makes an event ready, and warns about missing seqs before it.
func (b *Rebuilder) addEvent(e *entry) {
	if e.seq > b.lastSeq+1 {
		gap := seqRange{b.lastSeq + 1, e.seq - 1}
		b.missing = append(b.missing, gap)
		b.warnOfMissing(gap)
	}
	b.ready = append(b.ready, &ingest.Record{Event: e.event, EndedBoot: b.endedBoot, NewLog: b.newLog})
	b.endedBoot, b.newLog = "", false
	b.lastSeq, b.statusSeq = e.seq, e.seq
}

// addResult makes a result ready, unless it or a later one is already written.
func (b *Rebuilder) addResult(e *entry) {
	if b.isNewResult(e) {
		b.noteResult(e.result)
		b.ready = append(b.ready, &ingest.Record{Result: e.result})
	}
}

// isNewResult reports whether e is later than all written results. Results of the
// current boot are ordered by seq. A result without a seq, or of a boot whose
// events have not arrived, can be ordered only by time.
func (b *Rebuilder) isNewResult(e *entry) bool {
	if e.bootID == b.bootID && e.seq > 0 {
		return e.seq > b.lastResultSeq && !e.result.Time.Before(b.otherBootResultTime)
	}
	return e.result.Time.After(b.lastResultTime)
}

// noteResult records that r is written.
func (b *Rebuilder) noteResult(r *artifact.Result) {
	switch {
	case artifact.SameBoot(r.BootID, b.bootID):
		b.lastResultSeq = max(b.lastResultSeq, r.Seq)
	case !b.endedBoots[r.BootID]:
		b.otherBootResultTime = r.Time
	}
	if r.Time.After(b.lastResultTime) {
		b.lastResultTime = r.Time
	}
}

// A seqRange is the range of seqs from first to last, both included.
type seqRange struct{ first, last uint64 }

// maxWarnings is how many ranges of missing seqs are listed. More would not be
// read, and the log shows them all.
const maxWarnings = 100

func (b *Rebuilder) warnOfMissing(gap seqRange) {
	b.warnedRanges++
	switch {
	case b.warnedRanges <= maxWarnings:
		if gap.first == gap.last {
			b.warn("seq %d is missing; if no warning above explains it, look for it in the guest's events.jsonl", gap.first)
		} else {
			b.warn("seqs %d to %d are missing; if no warning above explains it, look for them in the guest's events.jsonl", gap.first, gap.last)
		}
	case b.warnedRanges == maxWarnings+1:
		b.warn("more seqs are missing and no longer listed; compare the seqs in %s with those in the guest's events.jsonl", b.Dir.Events.Path)
	}
}

// warnIfMissing warns about an event that arrives too late to be appended to the
// log. It does not warn about a repeated event.
func (b *Rebuilder) warnIfMissing(seq uint64) {
	i := slices.IndexFunc(b.missing, func(r seqRange) bool { return r.first <= seq && seq <= r.last })
	if i < 0 {
		return
	}
	b.warn("seq %d arrived after seq %d, too late to be written; to include it, rebuild into an empty directory", seq, b.missing[i].last+1)
	b.missing = slices.Delete(b.missing, i, i+1)
}

// Next implements ingest.Source.
func (b *Rebuilder) Next(now time.Time, flush bool) *ingest.Record {
	b.release(now, flush)
	if len(b.ready) == 0 {
		return nil
	}
	rec := b.ready[0]
	b.ready = b.ready[1:]
	return rec
}

// Buffered implements ingest.Source.
func (b *Rebuilder) Buffered() bool { return !b.buffer.isEmpty() }
