package journal

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// The limits of the queue.
const (
	// maxQueuedBytes is how many bytes of lines are queued: some 20,000 events,
	// more than a guest writes in its life, and affordable for a small guest.
	maxQueuedBytes = 4 << 20
	// maxQueuedCommits bounds the memory for commits of single short lines.
	maxQueuedCommits = 4096
)

// The limits of waiting for journald.
const (
	// minPause is the time between two attempts to reach a journald that is
	// absent. It doubles with each attempt, up to sendTimeout.
	minPause = 10 * time.Millisecond
	// maxFlush is how long Close waits for a journald that accepts entries:
	// short beside the 90 s that systemd gives a unit to stop.
	maxFlush = 5 * time.Second
	// maxStall is how long Close waits for a journald that accepts no entry:
	// longer than journald needs to start a new file.
	maxStall = time.Second
	// maxStallIfStopped is maxStall for a journald that seems to have been
	// stopped all the time: it had no room while the whole queue filled up.
	maxStallIfStopped = 10 * time.Millisecond
	// closePoll is how often Close looks whether journald is stalled.
	closePoll = 10 * time.Millisecond
)

// A Mirror is an ingest.Follower that sends one journal entry for each event,
// result and rejected line of a stream, and never blocks it. Start, Committed
// and Close must be called in this order, from one goroutine.
//
// Committed adds each commit to queue, and the goroutine that Start creates
// (run) sends the entries of one commit after the other. Invariants:
//   - Close closes queue and then closing; run closes done when it returns.
//   - An entry is counted in total before it is queued, and in sent after
//     journald has accepted it. So total-sent entries are missed, queued or
//     being sent.
//   - queuedBytes is the size of the lines in queue and of the commit that run
//     is sending. A commit that does not fit is dropped, and overflowed is true
//     from then on.
//   - madeRoom is true once journald has accepted an entry for which it first
//     had no room. It is busy then, not stopped.
//   - state is what run is doing, since stateSince.
//   - abandoned is set by Close when it no longer waits. run then sends nothing
//     more.
type Mirror struct {
	EventsPath string // absolute; required
	Socket     string // path of journald's socket; DefaultSocket if empty

	queue   chan commit
	closing chan struct{}
	done    chan struct{}

	mu          sync.Mutex // guards the following
	total       uint64
	sent        uint64
	queuedBytes int
	overflowed  bool
	madeRoom    bool
	state       sendState
	stateSince  time.Time
	abandoned   bool
}

// A sendState is what the sending goroutine of a Mirror is doing.
type sendState int

const (
	idle    sendState = iota // it is not sending, or pauses before the next attempt
	sending                  // it is sending an entry, for which journald may have no room
	absent                   // no process had bound the socket when it was tried after Close was called
)

// A commit is a copy of the parts of an ingest.Commit that are sent.
type commit struct {
	events  string // lines of events.jsonl
	rejects string // lines of rejected.jsonl
	result  *artifact.Result
}

func (c *commit) size() int { return len(c.events) + len(c.rejects) }

// Start starts to send. An error says why journald cannot be reached now. The
// Mirror is started nevertheless, and tries again until it is closed.
func (m *Mirror) Start() error {
	m.queue = make(chan commit, maxQueuedCommits)
	m.closing, m.done = make(chan struct{}), make(chan struct{})
	s := &socket{path: pathOrDefault(m.Socket)}
	err := s.connect()
	go m.run(s)
	return err
}

// Committed implements ingest.Follower.
func (m *Mirror) Committed(c *ingest.Commit) {
	entries := bytes.Count(c.Events, []byte{'\n'}) + bytes.Count(c.Rejects, []byte{'\n'})
	if c.Result != nil {
		entries++
	}
	if entries == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total += uint64(entries)
	size := len(c.Events) + len(c.Rejects)
	// An empty queue accepts a commit of any size: one line may be larger.
	fits := m.queuedBytes == 0 || m.queuedBytes+size <= maxQueuedBytes
	if !fits || len(m.queue) == cap(m.queue) {
		m.overflowed = true
		return
	}
	m.queuedBytes += size
	m.queue <- commit{string(c.Events), string(c.Rejects), copyResult(c.Result)} // has room
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

// Close sends the queue, for at most maxFlush and as long as journald accepts
// entries, and returns how many entries the Mirror should have sent and how many
// of them it did not. Entries that journald accepts and then drops are not known.
func (m *Mirror) Close() (missed, total uint64) {
	close(m.queue)
	close(m.closing)
	m.awaitDone()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.abandoned = true
	return m.total - m.sent, m.total
}

// awaitDone waits until run has returned, unless journald is stalled or too slow.
func (m *Mirror) awaitDone() {
	limit := time.NewTimer(maxFlush)
	defer limit.Stop()
	poll := time.NewTicker(closePoll)
	defer poll.Stop()
	for !m.isStalled() {
		select {
		case <-m.done:
			return
		case <-limit.C:
			return
		case <-poll.C:
		}
	}
}

// isStalled reports whether journald accepts no entries: it is absent, or has
// had no room for too long. systemd keeps its socket bound over a restart.
func (m *Mirror) isStalled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.state {
	case absent:
		return true
	case sending:
		limit := maxStall
		if m.overflowed && !m.madeRoom {
			limit = maxStallIfStopped
		}
		return time.Since(m.stateSince) > limit
	}
	return false
}

// run sends the queue until it is closed and empty, and then how many entries
// were missed.
func (m *Mirror) run(s *socket) {
	defer close(m.done)
	defer s.close()
	e := encoder{eventsPath: m.EventsPath}
	for c := range m.queue {
		for line := range strings.Lines(c.events) {
			m.sendCounted(s, e.event(line))
		}
		for line := range strings.Lines(c.rejects) {
			m.sendCounted(s, e.reject(line))
		}
		if c.result != nil {
			m.sendCounted(s, e.result(c.result))
		}
		m.mu.Lock()
		m.queuedBytes -= c.size()
		m.mu.Unlock()
	}
	m.mu.Lock()
	missed := m.total - m.sent
	m.mu.Unlock()
	if missed > 0 {
		m.send(s, e.missed(missed))
	}
}

// sendCounted sends an entry and counts it if journald accepts it.
func (m *Mirror) sendCounted(s *socket, entry []byte) {
	if m.send(s, entry) {
		m.mu.Lock()
		m.sent++
		m.mu.Unlock()
	}
}

// send sends an entry and waits as long as journald is busy or absent. It
// returns false if journald cannot accept the entry, or if the Mirror is
// abandoned.
func (m *Mirror) send(s *socket, entry []byte) bool {
	defer m.setState(idle)
	wait := m.hasMadeRoom() // otherwise the first attempt finds out whether there is room
	for pause := minPause; !m.isAbandoned(); {
		closing := m.isClosing()
		m.setState(sending)
		err := s.send(entry, wait)
		switch {
		case err == nil:
			if wait {
				m.setMadeRoom()
			}
			return true
		case err == unix.EAGAIN && !wait:
			wait = true
		case err == unix.EAGAIN:
			s.close() // another journald may have bound the path
		case isAbsent(err):
			s.close()
			if closing {
				m.setState(absent)
			} else {
				m.setState(idle)
			}
			m.pause(pause)
			pause = min(2*pause, sendTimeout)
		default:
			return false
		}
	}
	return false
}

// setState sets the state. stateSince is the time of the last change: attempts
// to send the same entry are one state.
func (m *Mirror) setState(s sendState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != s {
		m.state, m.stateSince = s, time.Now()
	}
}

func (m *Mirror) hasMadeRoom() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.madeRoom
}

func (m *Mirror) setMadeRoom() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.madeRoom = true
}

func (m *Mirror) isAbandoned() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.abandoned
}

func (m *Mirror) isClosing() bool {
	select {
	case <-m.closing:
		return true
	default:
		return false
	}
}

// pause waits for d, or until Close is called; if it has been called before,
// only for minPause.
func (m *Mirror) pause(d time.Duration) {
	if m.isClosing() {
		time.Sleep(minPause)
		return
	}
	select {
	case <-m.closing:
	case <-time.After(d):
	}
}
