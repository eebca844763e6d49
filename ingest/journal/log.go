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

// The limits of what is held for entries that should come before.
const (
	// holdFor is how long: processes that share a log send what they wrote
	// within milliseconds, and a guest's gap may not hide what follows it.
	holdFor = 2 * time.Second
	// maxHeld is how many bytes of lines: more than two seconds bring.
	maxHeld = 32 << 20
)

// A Log reads the journal's entries of one events log, and is the ingest.Source
// of a stream that rebuilds it. What an entry is, its machine, boot, path,
// MESSAGE_ID and seq say: one that comes again is known and dropped, whether
// this stream has written it or one before.
type Log struct {
	Dir *writer.Dir // required; the copy

	TrustUID string       // the user who is believed besides root
	Say      func(string) // is told gaps, and whom is not believed

	json    strictjson.Normaliser
	of      *facts // the first of this stream, which the others must belong to
	doubted bool

	boot   string          // of the last event in the copy
	last   uint64          // its seq; 0 if there is none
	status uint64          // the seq of the copy's status
	over   map[string]bool // boots whose events others have followed
	next   ingest.Record   // Over and Anew of the next event

	verdict uint64    // the seq of the last result
	decided time.Time // and its time
	foreign time.Time // that of a result of another boot, of which there are no events

	held    []held // in order
	size    int    // of what is held
	missing []span
	gaps    int
	ready   []*ingest.Record
}

// A held is something that waits for its turn.
type held struct {
	*facts
	size  int // of its line
	since time.Time
}

// A span is seqs that were waited for in vain.
type span struct{ first, last uint64 }

// Open finds out what the copy has. It is called once, before anything is read.
func (l *Log) Open() error {
	unlock, err := l.Dir.Events.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if l.last, l.boot, err = l.Dir.Events.Last(); err != nil {
		return err
	}
	boots, err := l.Dir.Boots.Read()
	if err != nil {
		return err
	}
	l.over = make(map[string]bool)
	for _, boot := range boots {
		l.over[boot] = true
	}
	return l.openWhole()
}

// openWhole finds out what status and results say. A result that was set aside
// still tells that those before it have been.
func (l *Log) openWhole() error {
	status, err := l.Dir.Status.Read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && status.BootID == l.boot {
		l.status = status.Seq
	}
	prev := writer.ResultFile{Path: l.Dir.Result.Path + ".prev"}
	for _, f := range []*writer.ResultFile{&l.Dir.Result, &prev} {
		result, err := f.Read()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil {
			continue
		}
		l.boot = cmp.Or(l.boot, result.BootID) // where there is no event
		l.decide(result)
		if f == &l.Dir.Result && l.isFormer(result, status) {
			l.ready = append(l.ready, &ingest.Record{Former: true})
		}
	}
	return nil
}

// isFormer reports whether the result that stands should have been set aside,
// and a crash came before.
func (l *Log) isFormer(r *artifact.Result, s *artifact.Status) bool {
	if l.over[r.BootID] {
		return true
	}
	if r.Seq == 0 || s == nil || s.Seq <= r.Seq || s.BootID != r.BootID {
		return false
	}
	switch s.State {
	case artifact.Completed, artifact.Failed, artifact.Stopped, artifact.Destroyed:
		return false
	}
	return true
}

// decide notes that the copy has had a result.
func (l *Log) decide(r *artifact.Result) {
	if r.BootID == "" || r.BootID == l.boot {
		l.verdict = max(l.verdict, r.Seq)
	} else if !l.over[r.BootID] {
		l.foreign = r.Time
	}
	if r.Time.After(l.decided) {
		l.decided = r.Time
	}
}

// Read takes one line. Entries of others are skipped: what is no event and no
// result, and what a user sent who is not believed.
func (l *Log) Read(line []byte, now time.Time) error {
	e, err := readEntry(&l.json, line)
	if err != nil {
		return err
	}
	kind, outcome := kindOf(e.fields[fieldID].Str)
	if kind == "" && outcome == "" || !l.believes(e.fields[fieldUID].Str) {
		return nil
	}
	if !e.isWhole() {
		l.say("an entry of seq %.20s has lost fields on its way and is left out; read the guest's own journal again to have it", e.fields[fieldSeq].Str)
		return nil
	}
	f, err := e.understand(kind, outcome)
	if err != nil {
		return err
	}
	if l.of == nil {
		l.of = f
	}
	switch {
	case f.machine != l.of.machine:
		return fmt.Errorf("the entry is of machine %.40q, this stream of %.40q; run a stream for each, with journalctl _MACHINE_ID=%.40s",
			f.machine, l.of.machine, f.machine)
	case f.path != l.of.path:
		return fmt.Errorf("the entry is of the log %.80q, this stream of %.80q; run a stream for each, with journalctl PIKA_EVENTS_PATH=%.80s",
			f.path, l.of.path, f.path)
	}
	if f.boot == "" {
		f.boot = l.boot
	}
	if !l.over[f.boot] {
		l.place(f, len(line), now)
	}
	return nil
}

// believes reports whether the user with this uid may speak for the lifecycle:
// anybody can send an entry with any fields, but for those that begin with an
// underscore.
func (l *Log) believes(uid string) bool {
	if uid == "0" || uid != "" && uid == l.TrustUID {
		return true
	}
	if !l.doubted {
		l.doubted = true
		l.say("there are entries of user %.10q, who is not believed; --trust-uid takes one besides root", uid)
	}
	return false
}

func (l *Log) say(format string, args ...any) {
	if l.Say != nil {
		l.Say(fmt.Sprintf(format, args...))
	}
}

// place puts f where it belongs: it waits for its turn, or is known.
func (l *Log) place(f *facts, size int, now time.Time) {
	switch {
	case l.boot == "":
		l.boot = f.boot
	case f.event != nil && f.boot != l.boot:
		l.turn(f)
	}
	switch {
	case f.boot == l.boot && f.seq > l.last:
		l.hold(held{f, size, now})
	case f.result != nil:
		l.conclude(f)
	case f.seq == l.last && f.seq > l.status:
		l.ready = append(l.ready, &ingest.Record{Event: f.event, Known: true})
		l.status = f.seq
	default:
		l.late(f.seq)
	}
}

// turn goes over to the events of another boot. Where their seqs begin again,
// the guest's directory did not outlive the one before, and theirs is a log of
// its own.
func (l *Log) turn(f *facts) {
	l.drain(time.Time{}, true)
	l.over[l.boot] = true
	l.next = ingest.Record{Over: l.boot, Anew: f.seq <= l.last}
	if l.next.Anew {
		l.last, l.missing = 0, nil
	}
	l.boot, l.verdict, l.foreign = f.boot, 0, time.Time{}
}

// hold puts h in its place among what waits.
func (l *Log) hold(h held) {
	i, known := slices.BinarySearchFunc(l.held, h, held.compare)
	if !known {
		l.held = slices.Insert(l.held, i, h)
		l.size += h.size
	}
}

// compare orders by seq, an event before its result.
func (h held) compare(other held) int {
	if c := cmp.Compare(h.seq, other.seq); c != 0 {
		return c
	}
	return cmp.Compare(btoi(h.result != nil), btoi(other.result != nil))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// drain makes ready what has its turn.
func (l *Log) drain(now time.Time, all bool) {
	for len(l.held) > 0 {
		h := l.held[0]
		turn := h.seq <= l.last || h.event != nil && h.seq == l.last+1
		if !turn && !all && now.Sub(h.since) < holdFor && l.size < maxHeld {
			return
		}
		l.held = l.held[1:]
		l.size -= h.size
		if h.result != nil {
			l.conclude(h.facts)
		} else {
			l.append(h.facts)
		}
	}
}

// append makes an event ready, and says which are missing before it.
func (l *Log) append(f *facts) {
	if f.seq > l.last+1 {
		gap := span{l.last + 1, f.seq - 1}
		l.missing = append(l.missing, gap)
		l.sayGap(gap)
	}
	rec := l.next
	rec.Event = f.event
	l.ready = append(l.ready, &rec)
	l.next, l.last, l.status = ingest.Record{}, f.seq, f.seq
}

// maxSaid is how many gaps are said one by one: more scroll by unread.
const maxSaid = 100

func (l *Log) sayGap(gap span) {
	switch l.gaps++; {
	case l.gaps <= maxSaid:
		l.say("the journal lacks %v", gap)
	case l.gaps == maxSaid+1:
		l.say("the journal lacks more; the seqs in %s tell which", l.Dir.Events.Path)
	}
}

// conclude makes a result ready unless the copy has had it, or one that came
// after it.
func (l *Log) conclude(f *facts) {
	news := f.result.Time.After(l.decided)
	if f.seq > 0 && f.boot == l.boot {
		news = f.seq > l.verdict && !f.result.Time.Before(l.foreign)
	}
	if news {
		l.decide(f.result)
		l.ready = append(l.ready, &ingest.Record{Result: f.result})
	}
}

// late says that an event comes after others that were written without it. One
// that the copy has is nothing to speak of.
func (l *Log) late(seq uint64) {
	i := slices.IndexFunc(l.missing, func(s span) bool { return s.first <= seq && seq <= s.last })
	if i >= 0 {
		l.say("seq %d, of those that were missing, came after %d; rebuild into an empty directory to have it", seq, l.missing[i].last+1)
		l.missing = slices.Delete(l.missing, i, i+1)
	}
}

func (s span) String() string {
	if s.first == s.last {
		return "seq " + strconv.FormatUint(s.first, 10)
	}
	return fmt.Sprintf("seqs %d to %d", s.first, s.last)
}

// Next returns what is to be committed next.
func (l *Log) Next(now time.Time, all bool) *ingest.Record {
	l.drain(now, all)
	if len(l.ready) == 0 {
		return nil
	}
	rec := l.ready[0]
	l.ready = l.ready[1:]
	return rec
}

// Waits reports whether something waits for what should come before it.
func (l *Log) Waits() bool { return len(l.held) > 0 }
