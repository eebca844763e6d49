// Package notify tells the guest's own system manager, and the host's, how a
// stream goes, so that they need not look into files: systemd learns of it as
// of any service (sd_notify(3)), Incus and LXD as of any instance.
//
// A Notifier follows a stream and never holds it up: what is to be told is
// kept in one place, the newest in the place of what nobody has taken yet, and is
// told on a goroutine. What could not be told is counted.
package notify

import (
	"fmt"
	"sync"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// patience is how long one that is told something may take to take it. They
// answer in milliseconds, and a guest that ends waits no longer than this.
const patience = 2 * time.Second

// pause is what lies between two notifications: each has the service manager wake
// up and tell others, and a stream may commit thousands of times a second.
const pause = 50 * time.Millisecond

// A news is what is to be told, all of it since the last time.
type news struct {
	state artifact.State // empty if there was no status
	text  string         // the message of the status
	ready bool           // the guest was ready, if only for a moment
	ended bool           // the stream has
}

// A Notifier is a Follower that tells one other program.
type Notifier struct {
	name string
	tell func(news) error

	mu     sync.Mutex
	next   news
	fresh  bool // next has not been told
	failed int
	err    error // of the last that failed

	wake chan struct{}
	over chan struct{} // closed when the stream is
	done chan struct{}
}

// start returns a Notifier that calls tell for all news, one after another.
func start(name string, tell func(news) error) *Notifier {
	n := &Notifier{name: name, tell: tell, wake: make(chan struct{}, 1), over: make(chan struct{}), done: make(chan struct{})}
	go n.run()
	return n
}

// Committed takes note of a status.
func (n *Notifier) Committed(c *ingest.Commit) {
	if c.Status == nil {
		return
	}
	text, _ := c.Status.Message.Text()
	n.mu.Lock()
	n.next.state, n.next.text = c.Status.State, text
	n.next.ready = n.next.ready || c.Ready || c.Status.State == artifact.Ready
	n.fresh = true
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default: // it is awake
	}
}

// run tells what there is, now and then, until the stream is over.
func (n *Notifier) run() {
	defer close(n.done)
	for {
		select {
		case <-n.wake:
			n.deliver()
		case <-n.over:
			n.deliver()
			return
		}
		select {
		case <-time.After(pause):
		case <-n.over:
		}
	}
}

func (n *Notifier) deliver() {
	n.mu.Lock()
	what, fresh := n.next, n.fresh
	n.next.ready, n.fresh = false, false
	n.mu.Unlock()
	if !fresh {
		return
	}
	if err := n.tell(what); err != nil {
		n.mu.Lock()
		n.failed, n.err = n.failed+1, err
		n.mu.Unlock()
	}
}

// Close tells that the stream has ended, and waits a little for all to be told.
// It returns an error that says how much was not. The stream must be over.
func (n *Notifier) Close() error {
	n.mu.Lock()
	n.next.ended, n.fresh = true, n.next.state != ""
	n.mu.Unlock()
	close(n.over)
	select {
	case <-n.done:
	case <-time.After(patience):
		return fmt.Errorf("%s is not told how it ended: no answer within %v", n.name, patience)
	}
	if n.failed > 0 {
		return fmt.Errorf("%d notifications to %s failed: %w", n.failed, n.name, n.err)
	}
	return nil
}
