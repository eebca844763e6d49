package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	phaseNames = [...]string{"opening", "reading", "draining", "closing", "concluding", "finishing", "acknowledging", "finished"}
	diskNames  = [...]string{"healthy", "retrying", "degraded"}
	eventNames = [...]string{"nothing", "input", "reported", "inputEnded", "stopRequested", "graceOver", "written",
		"writeFailed", "writeTimeout", "closed", "concluded", "acknowledged"}
)

func (s state) String() string {
	return fmt.Sprintf("%s %s %d", phaseNames[s.phase], diskNames[s.disk], s.stops)
}

// transitions has a row for each phase, disk and number of stops in which an
// event changes something: the state, and for each such event the next state.
// All other events leave the state as it is.
const transitions = `
opening healthy 0: stopRequested=opening,healthy,1 written=reading,healthy,0 writeFailed=reading,retrying,0
opening healthy 1: stopRequested=opening,healthy,2 written=draining,healthy,1 writeFailed=draining,retrying,1
opening healthy 2: written=closing,healthy,2 writeFailed=closing,degraded,2
opening retrying 0: stopRequested=opening,retrying,1 written=reading,healthy,0 writeFailed=reading,retrying,0 writeTimeout=opening,degraded,0
opening retrying 1: stopRequested=opening,degraded,2 written=draining,healthy,1 writeFailed=draining,retrying,1 writeTimeout=opening,degraded,1
opening retrying 2: stopRequested=opening,degraded,2 written=closing,healthy,2 writeFailed=closing,degraded,2 writeTimeout=opening,degraded,2
opening degraded 0: stopRequested=opening,degraded,1 written=reading,degraded,0 writeFailed=reading,degraded,0
opening degraded 1: stopRequested=opening,degraded,2 written=draining,degraded,1 writeFailed=draining,degraded,1
opening degraded 2: written=closing,degraded,2 writeFailed=closing,degraded,2
reading healthy 0: inputEnded=closing,healthy,0 stopRequested=draining,healthy,1 graceOver=closing,healthy,0 writeFailed=reading,retrying,0
reading healthy 1: inputEnded=closing,healthy,1 stopRequested=closing,healthy,2 graceOver=closing,healthy,1 writeFailed=reading,retrying,1
reading healthy 2: inputEnded=closing,healthy,2 stopRequested=closing,healthy,2 graceOver=closing,healthy,2 writeFailed=reading,degraded,2
reading retrying 0: inputEnded=closing,retrying,0 stopRequested=draining,retrying,1 graceOver=closing,retrying,0 written=reading,healthy,0 writeTimeout=reading,degraded,0
reading retrying 1: inputEnded=closing,retrying,1 stopRequested=closing,degraded,2 graceOver=closing,retrying,1 written=reading,healthy,1 writeTimeout=reading,degraded,1
reading retrying 2: inputEnded=closing,retrying,2 stopRequested=closing,degraded,2 graceOver=closing,retrying,2 written=reading,healthy,2 writeFailed=reading,degraded,2 writeTimeout=reading,degraded,2
reading degraded 0: inputEnded=closing,degraded,0 stopRequested=draining,degraded,1 graceOver=closing,degraded,0
reading degraded 1: inputEnded=closing,degraded,1 stopRequested=closing,degraded,2 graceOver=closing,degraded,1
reading degraded 2: inputEnded=closing,degraded,2 stopRequested=closing,degraded,2 graceOver=closing,degraded,2
draining healthy 0: inputEnded=closing,healthy,0 stopRequested=draining,healthy,1 graceOver=closing,healthy,0 writeFailed=draining,retrying,0
draining healthy 1: inputEnded=closing,healthy,1 stopRequested=closing,healthy,2 graceOver=closing,healthy,1 writeFailed=draining,retrying,1
draining healthy 2: inputEnded=closing,healthy,2 stopRequested=closing,healthy,2 graceOver=closing,healthy,2 writeFailed=draining,degraded,2
draining retrying 0: inputEnded=closing,retrying,0 stopRequested=draining,retrying,1 graceOver=closing,retrying,0 written=draining,healthy,0 writeTimeout=draining,degraded,0
draining retrying 1: inputEnded=closing,retrying,1 stopRequested=closing,degraded,2 graceOver=closing,retrying,1 written=draining,healthy,1 writeTimeout=draining,degraded,1
draining retrying 2: inputEnded=closing,retrying,2 stopRequested=closing,degraded,2 graceOver=closing,retrying,2 written=draining,healthy,2 writeFailed=draining,degraded,2 writeTimeout=draining,degraded,2
draining degraded 0: inputEnded=closing,degraded,0 stopRequested=draining,degraded,1 graceOver=closing,degraded,0
draining degraded 1: inputEnded=closing,degraded,1 stopRequested=closing,degraded,2 graceOver=closing,degraded,1
draining degraded 2: inputEnded=closing,degraded,2 stopRequested=closing,degraded,2 graceOver=closing,degraded,2
closing healthy 0: stopRequested=closing,healthy,1 writeFailed=closing,retrying,0 closed=concluding,healthy,0
closing healthy 1: stopRequested=closing,healthy,2 writeFailed=closing,retrying,1 closed=concluding,healthy,1
closing healthy 2: writeFailed=closing,degraded,2 closed=concluding,healthy,2
closing retrying 0: stopRequested=closing,retrying,1 written=closing,healthy,0 writeTimeout=closing,degraded,0 closed=concluding,retrying,0
closing retrying 1: stopRequested=closing,degraded,2 written=closing,healthy,1 writeTimeout=closing,degraded,1 closed=concluding,retrying,1
closing retrying 2: stopRequested=closing,degraded,2 written=closing,healthy,2 writeFailed=closing,degraded,2 writeTimeout=closing,degraded,2 closed=concluding,retrying,2
closing degraded 0: stopRequested=closing,degraded,1 closed=concluding,degraded,0
closing degraded 1: stopRequested=closing,degraded,2 closed=concluding,degraded,1
closing degraded 2: closed=concluding,degraded,2
concluding healthy 0: stopRequested=concluding,healthy,1 writeFailed=concluding,retrying,0 concluded=finishing,healthy,0
concluding healthy 1: stopRequested=concluding,healthy,2 writeFailed=concluding,retrying,1 concluded=finishing,healthy,1
concluding healthy 2: writeFailed=concluding,degraded,2 concluded=finishing,healthy,2
concluding retrying 0: stopRequested=concluding,retrying,1 written=concluding,healthy,0 writeTimeout=concluding,degraded,0 concluded=finishing,retrying,0
concluding retrying 1: stopRequested=concluding,degraded,2 written=concluding,healthy,1 writeTimeout=concluding,degraded,1 concluded=finishing,retrying,1
concluding retrying 2: stopRequested=concluding,degraded,2 written=concluding,healthy,2 writeFailed=concluding,degraded,2 writeTimeout=concluding,degraded,2 concluded=finishing,retrying,2
concluding degraded 0: stopRequested=concluding,degraded,1 concluded=finishing,degraded,0
concluding degraded 1: stopRequested=concluding,degraded,2 concluded=finishing,degraded,1
concluding degraded 2: concluded=finishing,degraded,2
finishing healthy 0: stopRequested=finishing,healthy,1 written=acknowledging,healthy,0 writeFailed=finishing,retrying,0
finishing healthy 1: stopRequested=finishing,healthy,2 written=acknowledging,healthy,1 writeFailed=finishing,retrying,1
finishing healthy 2: written=acknowledging,healthy,2 writeFailed=finishing,degraded,2
finishing retrying 0: stopRequested=finishing,retrying,1 written=acknowledging,healthy,0 writeTimeout=finishing,degraded,0
finishing retrying 1: stopRequested=finishing,degraded,2 written=acknowledging,healthy,1 writeTimeout=finishing,degraded,1
finishing retrying 2: stopRequested=finishing,degraded,2 written=acknowledging,healthy,2 writeFailed=finishing,degraded,2 writeTimeout=finishing,degraded,2
finishing degraded 0: stopRequested=finishing,degraded,1 written=acknowledging,degraded,0 writeTimeout=acknowledging,degraded,0
finishing degraded 1: stopRequested=finishing,degraded,2 written=acknowledging,degraded,1 writeTimeout=acknowledging,degraded,1
finishing degraded 2: written=acknowledging,degraded,2 writeFailed=acknowledging,degraded,2 writeTimeout=acknowledging,degraded,2
acknowledging healthy 0: stopRequested=acknowledging,healthy,1 writeFailed=acknowledging,retrying,0 acknowledged=finished,healthy,0
acknowledging healthy 1: stopRequested=acknowledging,healthy,2 writeFailed=acknowledging,retrying,1 acknowledged=finished,healthy,1
acknowledging healthy 2: writeFailed=acknowledging,degraded,2 acknowledged=finished,healthy,2
acknowledging retrying 0: stopRequested=acknowledging,retrying,1 written=acknowledging,healthy,0 writeTimeout=acknowledging,degraded,0 acknowledged=finished,retrying,0
acknowledging retrying 1: stopRequested=acknowledging,degraded,2 written=acknowledging,healthy,1 writeTimeout=acknowledging,degraded,1 acknowledged=finished,retrying,1
acknowledging retrying 2: stopRequested=acknowledging,degraded,2 written=acknowledging,healthy,2 writeFailed=acknowledging,degraded,2 writeTimeout=acknowledging,degraded,2 acknowledged=finished,retrying,2
acknowledging degraded 0: stopRequested=acknowledging,degraded,1 acknowledged=finished,degraded,0
acknowledging degraded 1: stopRequested=acknowledging,degraded,2 acknowledged=finished,degraded,1
acknowledging degraded 2: acknowledged=finished,degraded,2
`

// For every state and every event, next returns the state in the table.
func TestState_next(t *testing.T) {
	want := make(map[string]string)
	for line := range strings.Lines(strings.TrimSpace(transitions)) {
		from, changes, _ := strings.Cut(strings.TrimSpace(line), ": ")
		for _, change := range strings.Fields(changes) {
			e, to, _ := strings.Cut(change, "=")
			want[from+" "+e] = strings.ReplaceAll(to, ",", " ")
		}
	}
	tried := 0
	for p := range acknowledging + 1 {
		for d := range degraded + 1 {
			for stops := range 3 {
				for e := range acknowledged + 1 {
					s := state{p, d, stops}
					expected, changes := want[s.String()+" "+eventNames[e]]
					if !changes {
						expected = s.String()
					}
					delete(want, s.String()+" "+eventNames[e])
					tried++
					if got := s.next(e).String(); got != expected {
						t.Errorf("%v, %s: %s, expected %s", s, eventNames[e], got, expected)
					}
				}
			}
		}
	}
	if tried != 7*3*3*12 || len(want) > 0 {
		t.Errorf("%d tried; rows for no state: %v", tried, want)
	}
}

// Another process may read the input that arrived before the request to stop.
func TestDraining_input_read_by_another_process(t *testing.T) {
	g := newGuest(t)
	in := newPipe(t)
	g.In = int(in.r.Fd())
	r := newRunner(&g.Stream)
	r.state.phase, r.state.stops = draining, 1
	r.drain = drain{deadline: time.Now(), unread: 5}
	for range 3 {
		e := r.step()
		if e == graceOver {
			return
		}
	}
	t.Error("the stream waits for input that another process has read")
}
