package journal

import (
	"bytes"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// The limits of what a mirror holds and how long it waits.
const (
	// maxQueue is the bytes of lines that wait for the journal: some 20,000
	// events, more than a guest has in its life, and no burden to a small one.
	maxQueue = 4 << 20
	// maxParts is how many commits wait; those of lone directives are small.
	maxParts = 4096
	// minPause is how long the mirror waits before it dials a journal anew that
	// is away; each time twice as long, up to sendWait.
	minPause = 10 * time.Millisecond
	// maxDrain is how long the end of a stream waits for a journal that
	// takes entries: little beside the 90 s that systemd gives a unit to stop.
	maxDrain = 5 * time.Second
	// patience is how long it waits for one that takes none: longer than
	// journald needs to begin a new file.
	patience = time.Second
	// noPatience is that where entries were lost already and the journal has
	// never made room: it has been stopped all the time.
	noPatience = 10 * time.Millisecond
)

// A Mirror sends an entry for each event, result and refused line that a
// stream commits. It is an ingest.Follower that never blocks.
type Mirror struct {
	EventsPath string // required; absolute
	Socket     string // DefaultSocket if empty

	queue chan part
	ended chan struct{} // closed when the stream has
	done  chan struct{} // closed when the queue was sent
	held  atomic.Int64  // bytes in the queue

	told     atomic.Uint64 // entries that there should be
	sent     atomic.Uint64 // of them
	overflew atomic.Bool   // the queue
	alive    atomic.Bool   // the journal has made room for an entry that waited
	away     atomic.Bool   // nobody is at the other end
	over     atomic.Bool   // nothing more is sent
	waits    atomic.Int64  // since when for the journal, as a time after start; 0 if not
	start    time.Time     // a guest's wall clock may step: only differences count
}

// A part is what one commit adds to the queue.
type part struct {
	events  string
	rejects string
	result  *artifact.Result // nil if none
}

// Start begins to send. An error says why the journal cannot be reached; it is
// tried again for as long as the mirror lasts.
func (m *Mirror) Start() error {
	m.queue, m.start = make(chan part, maxParts), time.Now()
	m.ended, m.done = make(chan struct{}), make(chan struct{})
	s := &socket{path: orDefault(m.Socket)}
	err := s.dial()
	go m.send(s)
	return err
}

// Committed puts what was committed into the queue.
func (m *Mirror) Committed(c *ingest.Commit) {
	entries := bytes.Count(c.Events, []byte{'\n'}) + bytes.Count(c.Rejects, []byte{'\n'})
	if c.Result != nil {
		entries++
	}
	if entries == 0 {
		return
	}
	m.told.Add(uint64(entries))
	size := int64(len(c.Events) + len(c.Rejects))
	if !m.hasRoom(size) {
		m.overflew.Store(true)
		return
	}
	m.held.Add(size)
	m.queue <- part{string(c.Events), string(c.Rejects), copyResult(c.Result)}
}

// hasRoom reports whether the queue takes size more bytes. An empty one takes
// any: a line may be longer than it.
func (m *Mirror) hasRoom(size int64) bool {
	held := m.held.Load()
	return len(m.queue) < maxParts && (held == 0 || held+size <= maxQueue)
}

func copyResult(r *artifact.Result) *artifact.Result {
	if r == nil {
		return nil
	}
	c := *r
	c.Message, c.Details = bytes.Clone(r.Message), bytes.Clone(r.Details)
	if r.ExitCode != nil {
		code := *r.ExitCode
		c.ExitCode = &code
	}
	return &c
}

// Close sends what waits, for as long as the journal takes it and for a
// bounded time, and returns how many of the mirror's entries the journal has
// not got.
func (m *Mirror) Close() (missed, of uint64) {
	close(m.queue)
	close(m.ended)
	tick := time.NewTicker(noPatience)
	defer tick.Stop()
	for end := time.Now().Add(maxDrain); !m.isStuck() && time.Now().Before(end); {
		select {
		case <-m.done:
			end = time.Time{}
		case <-tick.C:
		}
	}
	m.over.Store(true)
	of = m.told.Load()
	return of - min(of, m.sent.Load()), of
}

// isStuck reports whether the journal is not waited for any more: it has taken
// nothing for too long, or nobody has bound its socket. One that systemd
// restarts keeps it.
func (m *Mirror) isStuck() bool {
	since := m.waits.Load()
	return m.away.Load() || since > 0 && time.Since(m.start)-time.Duration(since) > m.patience()
}

func (m *Mirror) patience() time.Duration {
	if m.overflew.Load() && !m.alive.Load() {
		return noPatience
	}
	return patience
}

// send empties the queue into the journal.
func (m *Mirror) send(s *socket) {
	defer close(m.done)
	defer s.close()
	e := encoder{path: m.EventsPath}
	for p := range m.queue {
		for line := range strings.Lines(p.events) {
			m.count(s, e.event(line))
		}
		for line := range strings.Lines(p.rejects) {
			m.count(s, e.reject(line))
		}
		if p.result != nil {
			m.count(s, e.result(p.result))
		}
		m.held.Add(-int64(len(p.events) + len(p.rejects)))
	}
	if missed := m.told.Load() - m.sent.Load(); missed > 0 {
		m.deliver(s, e.missed(missed))
	}
}

// count sends one entry and counts it.
func (m *Mirror) count(s *socket, entry []byte) {
	if m.deliver(s, entry) {
		m.sent.Add(1)
	}
}

// deliver sends one entry. Where the journal is busy or away it waits for it,
// and the queue behind it. It returns false for an entry that the journal
// cannot be given, or once the mirror is over.
func (m *Mirror) deliver(s *socket, entry []byte) bool {
	defer m.waits.Store(0)
	waited := m.alive.Load()
	for pause := minPause; !m.over.Load(); {
		ended := m.hasEnded()
		m.waits.CompareAndSwap(0, int64(time.Since(m.start)))
		err := s.send(entry, waited)
		switch {
		case err == nil:
			m.alive.Store(waited)
			return true
		case err == unix.EINTR: // a send with a deadline is not taken up again (signal(7))
			continue
		case err == unix.EAGAIN && !waited:
			waited = true
			continue
		case isGone(err):
			m.away.Store(ended)
			m.waits.Store(0)
			m.sleep(pause)
			pause = min(2*pause, sendWait)
		case err != unix.EAGAIN:
			return false
		}
		s.close()
	}
	return false
}

func (m *Mirror) hasEnded() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// sleep waits, but only a little once the stream has ended: then it is tried
// once more.
func (m *Mirror) sleep(pause time.Duration) {
	if m.hasEnded() {
		time.Sleep(minPause)
		return
	}
	select {
	case <-m.ended:
	case <-time.After(pause):
	}
}
