package ingest

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Moment is one reading of the clocks.
type Moment struct {
	Time   time.Time     // the wall clock
	Uptime time.Duration // CLOCK_BOOTTIME (clock_gettime(2)); 0 if not known
}

// A Stream reads directives from a descriptor and commits them to the
// artifacts of a state directory. The zero value of every field that is not
// required works.
type Stream struct {
	Dir   *writer.Dir   // required
	Clock func() Moment // required; read once for everything that one read(2) brought

	In     int    // descriptor to read from; standard input if 0
	Ack    int    // descriptor for acknowledgements; none if 0
	Stop   int    // descriptor of a pipe: a byte read from it ends the stream; none if 0
	BootID string // of the events, the status and the result; absent if empty

	// Say is called with one line about what an operator should know:
	// refused lines, surprising transitions, write errors. It holds nothing
	// that a terminal obeys.
	Say func(line string)

	// ShowRefused is called behind what Say says of a refused line, with that line,
	// or its start, and the offset of what was not expected.
	ShowRefused func(line []byte, at int)

	// DryRun, if not nil, is given the text of all that a commit would write, and
	// nothing is written. Its errors are its own.
	DryRun io.Writer

	// From reads the lines in the place of directives, if it is set.
	From Source

	// Followers hear of each commit, in this order.
	Followers []Follower

	// Owner opens the stream and gives its verdict; nil where those who write
	// to the stream do.
	Owner Owner

	Transitions   Policy
	RequireResult bool          // supply a failed verdict if the stream ends without one
	Cause         Cause         // what is known of it then
	EndOnResult   bool          // end once the verdict is committed
	ManyRuns      bool          // the input carries run after run, as a FIFO may
	MaxLine       int           // longest line in bytes; DefaultMaxLine if 0
	WriteTimeout  time.Duration // DefaultWriteTimeout if 0
	Grace         time.Duration // DefaultGrace if 0
}

// The limits of a stream that names none.
const (
	// DefaultMaxLine is far more than any caller's details take, and little
	// enough for the smallest guest.
	DefaultMaxLine = 1 << 20
	// DefaultWriteTimeout is how long input waits for a disk before the
	// guest matters more: longer than a journal replay or a busy lock.
	DefaultWriteTimeout = 30 * time.Second
	// DefaultGrace is how long a stream that is told to end reads on:
	// well within the 90 s that systemd gives a unit to stop.
	DefaultGrace = 5 * time.Second
)

// A Summary says how a stream went.
type Summary struct {
	Lines    uint64 // read
	Refused  uint64 // of them
	Dropped  uint64 // events and refused lines that could not be written
	Degraded bool   // something could not be written within WriteTimeout
	Supplied bool   // the verdict is the stream's own
}

// Run reads directives until the input ends or Stop asks for it, and commits
// them. It returns an error if the input could not be read. To be called once.
func (s *Stream) Run() (Summary, error) {
	r := &run{Stream: s, now: s.Clock()}
	r.input = lines{fd: s.In, max: orDefault(s.MaxLine, DefaultMaxLine)}
	r.begin()
	r.open()
	err := r.readAll()
	r.end()
	r.Summary.Lines = r.input.number
	return r.Summary, err
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// A run is a stream under way. Its state is the table in
// docs/architecture.md: verdict, Degraded and deadline are its axes.
type run struct {
	*Stream
	Summary

	input lines
	line  line
	dec   decoder
	now   Moment

	warned  int
	state   artifact.State // the last one; empty if none is known
	verdict bool           // this stream has given one
	lent    *lent          // what a verdict said of which the owner has the last word
	pending pending

	committed Commit // not yet told to followers; of no use where there are none

	failing  time.Time // since when commits fail; zero if they do not
	tryAgain time.Time // of a degraded stream
	said     string    // the last write error
	deadline time.Time // when an ending stream reads no more; zero if it is not
	owed     int       // bytes that had arrived when it was told to end, and were not read yet
	hurried  bool      // it was told to end a second time

	settled, acked uint64 // lines
	lastSeq        uint64
	ackGone        bool
	ackBuf         []byte
}

// begin asks for a large pipe, finds out where the guest stands, and says who
// else may write there.
func (r *run) begin() {
	// Best effort: it is refused for what is no pipe.
	_, _ = unix.FcntlInt(uintptr(r.In), unix.F_SETPIPE_SZ, readSize)
	if r.DryRun != nil {
		r.lastSeq = r.standingSeq()
	}
	if r.nothingStands() {
		return
	}
	status, err := r.Dir.Status.Read()
	if err == nil && r.BootID != "" && status.BootID == r.BootID {
		r.state = status.State
	}
	if err != nil {
		status = new(artifact.Status)
	}
	r.pending.events.Predict(status.Seq + 1)
	if who := r.Dir.OtherWriters(); who != "" {
		r.say("%s may write to %s, and so delete or forge what stands there", who, filepath.Dir(r.Dir.Status.Path))
	}
}

// flood is what one read brings of a caller that prints without pause.
const flood = 64 << 10

// readAll reads and commits until the input ends or the grace is over. What
// has arrived is committed in one go when the next read would block.
func (r *run) readAll() error {
	for {
		if !r.await() {
			r.takeLines(true)
			r.commit()
			return nil
		}
		n, err := r.input.read()
		if err == unix.EAGAIN {
			continue // somebody set O_NONBLOCK on the pipe
		}
		if n >= flood {
			r.pending.events.Grow(maxPending + usualLine)
		}
		r.owed -= n
		r.now = r.Clock()
		ended := n == 0 || err != nil
		r.takeLines(ended)
		if ended {
			r.commit()
			return readError(err)
		}
		if !r.ready() {
			r.commit()
		}
	}
}

func readError(err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "read", Path: "input", Err: err}
}

// takeLines takes all whole lines of what was read.
func (r *run) takeLines(ended bool) {
	ln := &r.line
	for r.input.next(ln) {
		r.take(ln)
		if r.pending.full() {
			r.commit()
		}
	}
	if !ended {
		return
	}
	if r.input.rest(ln) {
		r.take(ln)
	}
	if r.From != nil {
		r.release(true)
	}
}

// take takes one line: it is skipped, refused, or becomes part of the next
// commit.
func (r *run) take(ln *line) {
	if ln.long {
		r.refuse(ln, refuse(r.input.max, "the line has %d bytes; expected %d at most", ln.length, r.input.max))
		return
	}
	if r.From != nil {
		r.takeFrom(ln)
		return
	}
	text := ln.text
	if ln.number == 1 {
		text = trimMark(text)
	}
	if isSkipped(text) {
		return
	}
	d, refused := r.dec.decode(text, ln.cut)
	if refused == nil {
		refused = r.decide(d, ln.number)
	}
	if refused != nil {
		refused.at += len(ln.text) - len(text)
		r.refuse(ln, refused)
	}
}

// trimMark takes the byte order mark off the first line that some editors and
// PowerShell put there (RFC 8259 section 8.1 lets a reader ignore it).
func trimMark(text []byte) []byte {
	if len(text) >= 3 && string(text[:3]) == "\xef\xbb\xbf" {
		return text[3:]
	}
	return text
}

// maxSaid is how many lines of a kind are said one by one: more scroll by
// unread, and are hostile or a loop.
const maxSaid = 100

// refuse counts and keeps a refused line.
func (r *run) refuse(ln *line, why *refusal) {
	r.Refused++
	switch {
	case r.Refused <= maxSaid:
		r.say("line %d, %v", ln.number, why)
		if r.ShowRefused != nil {
			r.ShowRefused(ln.text, why.at)
		}
	case r.Refused == maxSaid+1:
		r.say("more lines are refused; they are kept in %s and counted", r.Dir.Rejects.Path)
	}
	reject := artifact.Reject{Line: ln.number, Offset: ln.offset, Time: r.now.Time,
		Error: why.Error(), Raw: ln.text, Length: ln.length}
	if !r.pending.addReject(&reject, r.Degraded) {
		r.drop()
	}
}

// drop counts what is lost for ever: from here on nothing is acknowledged.
func (r *run) drop() { r.Dropped++ }

func (r *run) say(format string, args ...any) {
	if r.Say != nil {
		r.Say(fmt.Sprintf(format, args...))
	}
}

// await waits for input. It returns false when the stream's time is over.
func (r *run) await() bool {
	for {
		if r.over() {
			return false
		}
		if r.poll(r.In, r.patience()) {
			return true
		}
		if r.From != nil {
			r.now = r.Clock()
			r.release(false)
		}
		if (r.Degraded || r.From != nil) && !r.pending.empty() {
			r.commit()
		}
		r.ack()
	}
}

// over reports whether the stream reads no more: it was told to end, what had
// arrived by then is read, and its grace is over; or it has given the verdict
// that it was to end on.
func (r *run) over() bool {
	if r.EndOnResult && r.verdict {
		return true
	}
	return !r.deadline.IsZero() && (r.hurried || r.owed <= 0 && !time.Now().Before(r.deadline))
}

// ready reports whether a read would not block, and more may be pending.
func (r *run) ready() bool {
	return !r.pending.full() && !r.over() && r.poll(r.In, 0)
}

// patience returns how long to wait for input, negative for ever.
func (r *run) patience() time.Duration {
	switch {
	case r.Degraded && !r.pending.empty():
		return time.Second
	case !r.deadline.IsZero():
		return max(0, time.Until(r.deadline))
	case r.From != nil && r.From.Buffered():
		return waitForRecords
	}
	return -1
}

// poll waits for fd to become readable, at most for the time given, and
// returns whether it is. It notices Stop, and a free place for an
// acknowledgement that is owed, meanwhile.
func (r *run) poll(fd int, wait time.Duration) bool {
	fds := [3]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: -1}, {Fd: -1}}
	if r.Stop > 0 && !r.hurried {
		fds[1] = unix.PollFd{Fd: int32(r.Stop), Events: unix.POLLIN}
	}
	if r.owesAck() {
		fds[2] = unix.PollFd{Fd: int32(r.Ack), Events: unix.POLLOUT}
	}
	ms := -1
	if wait >= 0 {
		ms = int((wait + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.Poll(fds[:], ms)
	if n <= 0 || err != nil {
		return false
	}
	if fds[1].Revents != 0 {
		r.stop()
	}
	return fds[0].Revents != 0
}

// stop begins the end of the stream, or hurries it.
func (r *run) stop() {
	var b [1]byte
	if n, _ := unix.Read(r.Stop, b[:]); n <= 0 {
		r.Stop = 0 // nobody is left to ask
		return
	}
	if !r.deadline.IsZero() {
		r.hurried = true
		return
	}
	r.deadline = time.Now().Add(orDefault(r.Grace, DefaultGrace))
	// Best effort: 0 for what does not tell, such as a file.
	r.owed, _ = unix.IoctlGetInt(r.In, unix.TIOCINQ)
}

// end gives the verdict that is the owner's, or the one that is required and
// was not given, and waits a little for an acknowledgement to be taken.
func (r *run) end() {
	switch {
	case r.Owner != nil:
		r.conclude()
	case r.RequireResult:
		r.now = r.Clock()
		r.supply()
	}
	r.tryAgain = time.Time{}
	r.commit()
	if !r.pending.empty() {
		r.giveUp()
	}
	r.lastAck()
}
