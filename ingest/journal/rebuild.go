package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Rebuilder is the ingest.Source of a stream that rebuilds the artifacts of
// one events log from its entries in the journal. It accepts lines that
// journalctl -o json --all prints, ignores those that are not an event or a
// result, and may be given the same entries any number of times, by one stream
// or by several after each other: an entry is identified by machine, events
// path, boot, MESSAGE_ID and seq, and one that the copy has is dropped.
//
// Events are ordered by seq. One that arrives early is buffered until the
// earlier ones have arrived, or for maxDelay; then the missing ones are
// left out with a warning. Open must be called first. Not for concurrent use.
//
// Invariants, with "written" for: in the copy's log, or in ready:
//   - All entries of the stream have the machine and events path of origin,
//     which is nil until the first entry.
//   - bootID is the current boot. It changes only when an event of another boot
//     arrives; until the copy has an event, it is the boot of the first entry, or
//     of the copy's result.
//   - lastSeq is the seq of the last written event of the current log, and
//     statusSeq that of the status in the copy or in ready, if it is of bootID;
//     0 if there is none.
//   - endedBoots are the earlier boots, whose entries are dropped. bootID is not
//     among them.
//   - buffer has only entries of bootID. After release, all have a higher seq
//     than lastSeq, and the event lastSeq+1 is not among them.
//   - endedBoot and newLog belong to the next event: they are set when bootID
//     changes, and cleared by the first event of the new boot.
//   - lastResultSeq is the highest seq of a written result of bootID, and
//     lastResultTime the latest time of any written result. strayResultTime is
//     the time of the last written result of a boot that is neither bootID nor
//     ended, because none of its events has arrived. 0, or zero, if there is none.
//   - missing are the seqs below lastSeq that this stream left out of the current
//     log and that have not arrived since.
type Rebuilder struct {
	Dir      *writer.Dir       // the copy; required
	TrustUID string            // decimal ID of a user to trust besides root; none if empty
	Warn     func(line string) // called with each warning, such as missing seqs; nil for none

	json         strictjson.Normaliser
	origin       *entry
	warnedOfUser bool // that the entries of a user are ignored

	bootID     string
	lastSeq    uint64
	statusSeq  uint64
	endedBoots map[string]bool
	endedBoot  string
	newLog     bool

	lastResultSeq   uint64
	lastResultTime  time.Time
	strayResultTime time.Time

	buffer       buffer
	missing      []seqRange
	warnedRanges int              // ranges of missing seqs, listed or not
	ready        []*ingest.Record // to be returned by Next
}

// Open reads from the copy which events, results and status it has.
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

// openResults reads the current and the previous result. The previous one also
// shows which results the copy has had.
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
			b.bootID = cmp.Or(b.bootID, result.BootID) // there may be results and no event
			b.noteResult(result)
		}
	}
	if current != nil && b.isStale(current, status) {
		b.ready = append(b.ready, &ingest.Record{StaleResult: true})
	}
	return nil
}

// optional returns nil for a file that does not exist.
func optional[T any](v *T, err error) (*T, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return v, err
}

// isStale reports whether the current result belongs to an earlier run or boot:
// then a crash came before the stream could set it aside. A result from another
// boot than the status is not stale by that alone, because a boot may have a
// result and no event.
func (b *Rebuilder) isStale(r *artifact.Result, s *artifact.Status) bool {
	if b.endedBoots[r.BootID] {
		return true
	}
	return s != nil && artifact.SameBoot(r.BootID, s.BootID) && !r.IsOf(s)
}

// Add decodes a line and orders the event or result in it. It returns an error
// if the line is not a journal entry, if the event or result is invalid, or if
// it is not from the same machine and events log as the first.
func (b *Rebuilder) Add(line []byte, now time.Time) error {
	raw, err := parseLine(&b.json, line)
	if err != nil {
		return err
	}
	if !raw.isEventOrResult() {
		return nil
	}
	if uid := raw.values[fieldUID].Str; !b.isTrusted(uid) {
		b.warnOfUser(uid)
		return nil
	}
	if !raw.isComplete() {
		b.warn("the entry of seq %.20s is left out because it has lost fields; to get it, read the guest's own journal again",
			raw.values[fieldSeq].Str)
		return nil
	}
	e, err := raw.decode()
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
		b.order(e, len(line), now)
	}
	return nil
}

// isTrusted reports whether the entries of a user are accepted. Any user can
// send an entry with any fields, except that journald itself sets _UID.
func (b *Rebuilder) isTrusted(uid string) bool {
	return uid == "0" || (uid != "" && uid == b.TrustUID)
}

// warnOfUser warns that the entries of a user are ignored, once a stream.
func (b *Rebuilder) warnOfUser(uid string) {
	if !b.warnedOfUser {
		b.warnedOfUser = true
		b.warn("entries of user %.10q are ignored; only root and the user given with --trust-uid are trusted", uid)
	}
}

func (b *Rebuilder) warn(format string, args ...any) {
	if b.Warn != nil {
		b.Warn(fmt.Sprintf(format, args...))
	}
}

// checkOrigin checks that e has the machine and events path of origin.
func (b *Rebuilder) checkOrigin(e *entry) error {
	if e.machineID != b.origin.machineID {
		return fmt.Errorf("the entry is of machine %.40q, the first one of %.40q; rebuild each machine by itself, with journalctl _MACHINE_ID=%.40s",
			e.machineID, b.origin.machineID, e.machineID)
	}
	if e.eventsPath != b.origin.eventsPath {
		return fmt.Errorf("the entry is of the log %.80q, the first one of %.80q; rebuild each log by itself, with journalctl PIKA_EVENTS_PATH=%.80s",
			e.eventsPath, b.origin.eventsPath, e.eventsPath)
	}
	return nil
}

// order buffers e, makes it ready or drops it. Its boot has not ended.
func (b *Rebuilder) order(e *entry, size int, now time.Time) {
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
		// A crash came between the log and the status.
		b.ready = append(b.ready, &ingest.Record{Event: e.event, Known: true})
		b.statusSeq = e.seq
	default:
		b.warnIfMissing(e.seq)
	}
}

// startBoot ends the current boot and starts that of e, an event. If its seqs
// start again, the guest lost its directory with the boot, and e belongs to a
// new log.
func (b *Rebuilder) startBoot(e *entry) {
	b.release(time.Time{}, true)
	b.endedBoots[b.bootID] = true
	b.endedBoot, b.newLog = b.bootID, e.seq <= b.lastSeq
	if b.newLog {
		b.lastSeq, b.missing = 0, nil
	}
	b.bootID = e.bootID
	b.lastResultSeq, b.strayResultTime = 0, time.Time{}
}

// release makes the buffered entries ready that are next in turn, and those
// that need not wait for earlier ones any longer; all of them if flush is set.
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

// addEvent makes an event ready, and warns of seqs that are missing before it.
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

// addResult makes a result ready unless it, or a later one, is written.
func (b *Rebuilder) addResult(e *entry) {
	if b.isNewResult(e) {
		b.noteResult(e.result)
		b.ready = append(b.ready, &ingest.Record{Result: e.result})
	}
}

// isNewResult reports whether e is later than all written results. Results of
// the current boot are ordered by seq. A result without a seq, or of a boot
// whose events have not arrived, can only be ordered by time.
func (b *Rebuilder) isNewResult(e *entry) bool {
	if e.bootID == b.bootID && e.seq > 0 {
		return e.seq > b.lastResultSeq && !e.result.Time.Before(b.strayResultTime)
	}
	return e.result.Time.After(b.lastResultTime)
}

// noteResult records that r is written.
func (b *Rebuilder) noteResult(r *artifact.Result) {
	switch {
	case artifact.SameBoot(r.BootID, b.bootID):
		b.lastResultSeq = max(b.lastResultSeq, r.Seq)
	case !b.endedBoots[r.BootID]:
		b.strayResultTime = r.Time
	}
	if r.Time.After(b.lastResultTime) {
		b.lastResultTime = r.Time
	}
}

// A seqRange is the seqs from first to last.
type seqRange struct{ first, last uint64 }

func (r seqRange) String() string {
	if r.first == r.last {
		return "seq " + strconv.FormatUint(r.first, 10)
	}
	return fmt.Sprintf("seqs %d to %d", r.first, r.last)
}

// maxWarnings is how many ranges of missing seqs are listed: more scroll by unread,
// and the log shows them all.
const maxWarnings = 100

func (b *Rebuilder) warnOfMissing(gap seqRange) {
	b.warnedRanges++
	switch {
	case b.warnedRanges <= maxWarnings:
		b.warn("the journal lacks %v", gap)
	case b.warnedRanges == maxWarnings+1:
		b.warn("the journal lacks more seqs, which are not listed; compare the seqs in %s", b.Dir.Events.Path)
	}
}

// warnIfMissing warns of an event that arrives too late: a log is only ever
// appended to. An event that is written is not worth a warning.
func (b *Rebuilder) warnIfMissing(seq uint64) {
	i := slices.IndexFunc(b.missing, func(r seqRange) bool { return r.first <= seq && seq <= r.last })
	if i < 0 {
		return
	}
	b.warn("seq %d was missing and arrived after seq %d; to include it, rebuild into an empty directory", seq, b.missing[i].last+1)
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
