package journal

import (
	"bytes"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// The limits of the queue.
const (
	// maxQueuedBytes limits the size of the queued lines and results. 4 MiB hold about 20,000
	// events, more than a guest normally writes, and fit into the memory of a
	// small guest.
	maxQueuedBytes = 4 << 20
	// maxQueuedCommits limits the memory for commits of one short line each.
	maxQueuedCommits = 4096
)

// The limits of waiting for journald.
const (
	// minPause is the first pause between two attempts to reach a journald that
	// is absent. The pause doubles with each attempt, up to sendTimeout.
	minPause = 10 * time.Millisecond
	// maxFlush is how long Close waits while journald accepts entries. It is short
	// compared with the 90 s that systemd gives a unit to stop.
	maxFlush = 5 * time.Second
	// maxStall is how long Close waits while journald accepts no entry. It is
	// longer than journald needs to start a new file.
	maxStall = time.Second
	// maxStallIfStopped replaces maxStall if journald seems to be stopped, because
	// it accepted no entry while the queue filled up.
	maxStallIfStopped = 10 * time.Millisecond
	// closePoll is how often Close checks whether journald is stalled.
	closePoll = 10 * time.Millisecond
)

// A Mirror is an ingest.Follower that sends a journal entry for each event, result
// and rejected line of a stream, and never blocks the stream. Call Start, Committed
// and Close in this order, from one goroutine.
//
// Committed adds each commit to queue, and the goroutine that Start creates
// (run) sends the entries of one commit after another. Invariants:
//   - Close closes queue and then closing; run closes done when it returns.
//   - An entry is counted in total before it is queued, and in sent after
//     journald has accepted it. The other total-sent entries are missed, queued
//     or being sent.
//   - queuedBytes is the size of the lines and results in queue and in the commit that
//     run is sending. Committed drops a commit that does not fit, and sets overflowed.
//   - busy is true once journald has accepted an entry for which it had no room at
//     first: journald runs, and is only slow.
//   - state is what run is doing, and stateSince is when it began.
//   - Close sets abandoned when it stops waiting. run then sends nothing more.
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
	busy        bool
	state       sendState
	stateSince  time.Time
	abandoned   bool
}

// A sendState is what the sending goroutine of a Mirror is doing.
type sendState int

const (
	idle    sendState = iota // not sending, or pausing before the next attempt
	sending                  // sending an entry; blocked if journald has no room
	absent                   // journald was absent in an attempt after Close was called
)

// A commit is a copy of the parts of an ingest.Commit that are sent.
type commit struct {
	events  []byte       // lines of events.jsonl
	rejects []byte       // lines of rejected.jsonl
	result  encodedEntry // empty if there is none
}

func (c *commit) size() int {
	return len(c.events) + len(c.rejects) + len(c.result[0]) + len(c.result[1])
}

// Start starts the sending goroutine. It returns an error if journald cannot be
// reached now; the Mirror has started anyway and tries again until it is closed.
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
	// An empty queue accepts a commit of any size, because one line may be larger
	// than the limit.
	fits := m.queuedBytes == 0 || m.queuedBytes+len(c.Events)+len(c.Rejects) <= maxQueuedBytes
	if !fits || len(m.queue) == cap(m.queue) {
		m.overflowed = true
		return
	}
	copied := commit{events: bytes.Clone(c.Events), rejects: bytes.Clone(c.Rejects)}
	if c.Result != nil {
		e := encoder{eventsPath: m.EventsPath}
		copied.result = e.result(c.Result)
	}
	m.queuedBytes += copied.size()
	m.queue <- copied // does not block
}

// Close sends the rest of the queue, for up to maxFlush and while journald accepts
// entries. It returns how many entries the journal missed, and how many there were in
// total. An entry that journald accepts and then drops does not count as missed.
func (m *Mirror) Close() (missed, total uint64) {
	close(m.queue)
	close(m.closing)
	m.awaitDone()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.abandoned = true
	return m.total - m.sent, m.total
}

// awaitDone waits until run has returned, journald is stalled, or maxFlush is over.
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

// isStalled reports whether journald accepts no entries, because it is absent or
// has had no room for too long. An unbound socket means more than a restart:
// systemd keeps the socket bound while it restarts journald.
func (m *Mirror) isStalled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.state {
	case absent:
		return true
	case sending:
		limit := maxStall
		if m.overflowed && !m.busy {
			limit = maxStallIfStopped
		}
		return time.Since(m.stateSince) > limit
	}
	return false
}

// run sends the queue until it is closed and empty, and then sends the number of
// missed entries.
func (m *Mirror) run(s *socket) {
	defer close(m.done)
	defer s.close()
	e := encoder{eventsPath: m.EventsPath}
	for c := range m.queue {
		for line := range bytes.Lines(c.events) {
			m.sendCounted(s, e.event(line))
		}
		for line := range bytes.Lines(c.rejects) {
			m.sendCounted(s, e.reject(line))
		}
		if c.result[0] != nil {
			m.sendCounted(s, c.result)
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

// sendCounted sends an entry, and counts it in sent if journald accepts it.
func (m *Mirror) sendCounted(s *socket, entry encodedEntry) {
	if m.send(s, entry) {
		m.mu.Lock()
		m.sent++
		m.mu.Unlock()
	}
}

// send sends an entry, and tries again while journald is busy or absent. It returns
// false if sending fails for another reason, or if the Mirror is abandoned.
func (m *Mirror) send(s *socket, entry encodedEntry) bool {
	defer m.setState(idle)
	wait := m.isBusy() // if false, the first attempt shows whether there is room
	for pause := minPause; !m.isAbandoned(); {
		closing := m.isClosing()
		m.setState(sending)
		err := s.send(entry, wait)
		switch {
		case err == nil:
			if wait {
				m.setBusy()
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

// setState sets the state. It does not change stateSince if the state is the same:
// several attempts to send one entry count as one state.
func (m *Mirror) setState(s sendState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != s {
		m.state, m.stateSince = s, time.Now()
	}
}

func (m *Mirror) isBusy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.busy
}

func (m *Mirror) setBusy() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy = true
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

// pause waits for d or until Close is called. After the call of Close, it waits for
// minPause.
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
