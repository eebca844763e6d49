// Package notify reports the progress of a stream to a service manager: to
// systemd in the guest, as any service does (sd_notify(3)), and to Incus or LXD
// on the host, as any instance does. Neither needs to read the artifacts.
//
// A Notifier follows a stream and never delays it. It keeps only the newest
// notification until its goroutine sends it, and counts those that fail.
package notify

import (
	"fmt"
	"sync"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

const (
	// timeout is how long a service manager may take to accept a notification,
	// and how long Close waits. They answer within milliseconds.
	timeout = 2 * time.Second
	// interval is the shortest time between two notifications. Each wakes up the
	// service manager and the programs that watch it, and a stream may commit
	// thousands of times a second.
	interval = 50 * time.Millisecond
)

// A notification is all that has happened since the last one.
type notification struct {
	state     artifact.State // of the newest status
	message   string         // of the newest status
	wasReady  bool           // the guest was ready, even if it is not any more
	streamEnd bool           // the stream has ended
}

// A Notifier is an ingest.Follower that notifies one service manager. Committed
// and Close must be called from one goroutine; Close last, and once.
//
// Invariants:
//   - Only the goroutine that start creates (run) calls send.
//   - next is the notification to be sent, and hasNext is true if something has
//     happened since run took the last one. next.state is empty as long as there
//     was no status.
//   - wake is full if Committed has set hasNext and run has not noticed yet.
//   - Close closes ended after the last change to next; run closes done when it
//     has sent it.
//   - failures counts the notifications that failed, and lastErr is the error of
//     the last one.
type Notifier struct {
	name string // of the service manager, for errors
	send func(notification) error

	mu       sync.Mutex // guards the following
	next     notification
	hasNext  bool
	failures int
	lastErr  error

	wake  chan struct{}
	ended chan struct{}
	done  chan struct{}
}

// start returns a Notifier that calls send for one notification after another.
func start(name string, send func(notification) error) *Notifier {
	n := &Notifier{name: name, send: send,
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

// run sends notifications until the stream has ended, at most one an interval.
func (n *Notifier) run() {
	defer close(n.done)
	for {
		select {
		case <-n.wake:
			n.sendNext()
		case <-n.ended:
			n.sendNext()
			return
		}
		select {
		case <-time.After(interval):
		case <-n.ended:
		}
	}
}

// sendNext sends the next notification, if there is one.
func (n *Notifier) sendNext() {
	n.mu.Lock()
	next, hasNext := n.next, n.hasNext
	n.next.wasReady, n.hasNext = false, false
	n.mu.Unlock()
	if !hasNext {
		return
	}
	err := n.send(next)
	if err != nil {
		n.mu.Lock()
		n.failures++
		n.lastErr = err
		n.mu.Unlock()
	}
}

// Close sends a last notification, that the stream has ended, and waits for it
// at most 2 s. It returns an error if that or an earlier notification failed.
func (n *Notifier) Close() error {
	n.mu.Lock()
	n.next.streamEnd = true
	n.hasNext = n.next.state != ""
	n.mu.Unlock()
	close(n.ended)
	select {
	case <-n.done:
	case <-time.After(timeout):
		return fmt.Errorf("%s did not accept the last notification within %v", n.name, timeout)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failures > 0 {
		return fmt.Errorf("%d notifications to %s failed: %w", n.failures, n.name, n.lastErr)
	}
	return nil
}
