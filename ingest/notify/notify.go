// Package notify sends the status of a stream to a service manager: to systemd in
// the guest, as services do (sd_notify(3)), or to Incus or LXD on the host, as
// instances do. So they know the status without reading the files.
//
// A Notifier follows a stream and never delays it. It keeps only the newest
// notification until its goroutine sends it, and counts failures.
package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

const (
	// timeout is how long a service manager may take to accept a notification,
	// and how long Close waits. Normally they answer within milliseconds.
	timeout = 2 * time.Second
	// interval is the shortest time between two notifications. A stream may commit
	// thousands of times in a second, and each notification wakes up the service
	// manager and the programs that watch it.
	interval = 50 * time.Millisecond
)

// A notification contains everything that has happened since the previous one.
type notification struct {
	state     artifact.State // of the newest status
	message   string         // of the newest status
	wasReady  bool           // the guest was ready since then, even if it is in another state now
	streamEnd bool           // the stream has ended
}

// A Notifier is an ingest.Follower that notifies one service manager. Call
// Committed and Close from one goroutine, and Close once for each Notifier, at the end.
//
// Invariants:
//   - Only the goroutine that start creates (run) calls send and flush.
//   - next is the next notification. hasNext is true if something has happened
//     since run sent the previous one. next.state is empty until the first status.
//   - wake is full if Committed has set hasNext and run has not received from wake
//     since then.
//   - end closes ended after the last change to next. run closes done after it
//     has sent this last notification, and has called flush.
//   - failures counts the notifications that failed, and lastErr is the error of
//     the last one.
type Notifier struct {
	name  string // of the service manager, for errors
	send  func(notification) error
	flush func()

	mu       sync.Mutex // guards the following
	next     notification
	hasNext  bool
	failures int
	lastErr  error

	wake  chan struct{}
	ended chan struct{}
	done  chan struct{}
}

// start returns a Notifier that calls send for each notification, one at a time. If it
// has called send, it calls flush at the end, which waits until the service manager has
// received everything; nil if send does that.
func start(name string, send func(notification) error, flush func()) *Notifier {
	n := &Notifier{name: name, send: send, flush: flush,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), done: make(chan struct{})}
	go n.run()
	return n
}

// Committed implements ingest.Follower.
func (n *Notifier) Committed(c *ingest.Commit) {
	if c.Status == nil {
		return
	}
	message, _ := c.Status.Message.Text()
	n.mu.Lock()
	n.next.state, n.next.message = c.Status.State, message
	n.next.wasReady = n.next.wasReady || c.Ready || c.Status.State == artifact.Ready
	n.hasNext = true
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default: // wake is full
	}
}

// run sends notifications until the stream has ended, at most one per interval.
func (n *Notifier) run() {
	defer close(n.done)
	sent := false
	for {
		select {
		case <-n.wake:
			sent = n.sendNext() || sent
		case <-n.ended:
			sent = n.sendNext() || sent
			if sent && n.flush != nil {
				n.flush()
			}
			return
		}
		select {
		case <-time.After(interval):
		case <-n.ended:
		}
	}
}

// sendNext sends the next notification, and reports whether there was one.
func (n *Notifier) sendNext() bool {
	n.mu.Lock()
	next, hasNext := n.next, n.hasNext
	n.next.wasReady, n.hasNext = false, false
	n.mu.Unlock()
	if !hasNext {
		return false
	}
	err := n.send(next)
	if err != nil {
		n.mu.Lock()
		n.failures++
		n.lastErr = err
		n.next.wasReady = n.next.wasReady || next.wasReady // the next notification reports it
		n.mu.Unlock()
	}
	return true
}

// Close ends the notifiers. Each sends a last notification, which reports the end of
// the stream. Close waits for up to 2 s until all are sent and received. It returns an
// error for each notifier of which this or an earlier notification failed.
func Close(all ...*Notifier) (errs []error) {
	for _, n := range all {
		n.end()
	}
	late, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, n := range all {
		if err := n.wait(late); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// end makes the last notification the next one, unless there was no status.
func (n *Notifier) end() {
	n.mu.Lock()
	n.next.streamEnd = true
	n.hasNext = n.next.state != ""
	n.mu.Unlock()
	close(n.ended)
}

// wait waits until the last notification is sent, or late is done, and returns the error
// of the notifier.
func (n *Notifier) wait(late context.Context) error {
	select {
	case <-n.done:
	case <-late.Done():
	}
	select {
	case <-n.done:
	default:
		return fmt.Errorf("%s did not accept the last notification within %v; the files are not affected", n.name, timeout)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case errors.Is(n.lastErr, errNotSupported):
		return n.lastErr
	case n.failures == 0:
		return nil
	case n.failures == 1:
		return fmt.Errorf("1 notification to %s failed: %w; the files are not affected", n.name, n.lastErr)
	}
	return fmt.Errorf("%d notifications to %s failed: %w; the files are not affected", n.failures, n.name, n.lastErr)
}
