package ingest

import (
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// withAcks gives the stream a pipe for its acknowledgements.
func (g *guest) withAcks() pipe {
	p := newPipe(g.t)
	g.Ack = int(p.w.Fd())
	return p
}

// fill fills a pipe, and returns a function that drains it.
func fill(t *testing.T, p pipe) (drain func()) {
	t.Helper()
	_, err := unix.FcntlInt(p.w.Fd(), unix.F_SETPIPE_SZ, 4096)
	testenv.Must(t, err)
	text := make([]byte, 4096)
	_, err = p.w.Write(text)
	testenv.Must(t, err)
	return func() {
		_, err := io.ReadFull(p.r, text)
		testenv.Must(t, err)
	}
}

func TestAck_cumulative(t *testing.T) {
	g := newGuest(t)
	acks := g.withAcks()
	w := g.open()
	for _, c := range []struct {
		print               string
		line, seq, rejected uint64
	}{
		{"STATE=booted\n", 1, 1, 0},
		{"\n# x\n", 3, 1, 0},
		{"bad\n", 4, 1, 1},
		{"KIND=ready\nKIND=ready\nbad\nKIND=ready\n", 8, 4, 2},
		{strings.Repeat("x", DefaultMaxLine+1) + "\n", 9, 4, 3},
		{"STATUS=failed\n", 10, 4, 3},
	} {
		w.print(c.print)
		if seq, rejected := awaitAck(t, acks.r, c.line); seq != c.seq || rejected != c.rejected {
			t.Errorf("%q: seq %d, rejected %d", clip(c.print), seq, rejected)
		}
	}
	w.close()
	acks.w.Close()
	if rest, err := io.ReadAll(acks.r); len(rest) > 0 || err != nil {
		t.Errorf("unexpected acknowledgement %q, %v", rest, err)
	}
}

// When a line is acknowledged, every file that it changes is on disk.
func TestAck_after_write(t *testing.T) {
	g := newGuest(t)
	acks := g.withAcks()
	w := g.open()
	w.print("STATE=failed EXIT_CODE=3\nbad\n")
	awaitAck(t, acks.r, 2)
	for _, name := range []string{"events.jsonl", "rejected.jsonl", "result.json", "status.json"} {
		if g.read(name) == "" {
			t.Errorf("no %s", name)
		}
	}
	w.close()
}

func TestAck_slow_reader(t *testing.T) {
	g := newGuest(t)
	g.Grace = time.Hour
	acks := g.withAcks()
	drain := fill(t, acks)
	w := g.open()
	w.print("KIND=ready\nKIND=ready\n")
	w.print("bad\n")
	testenv.Must(t, w.in.Close())
	for !g.isWritten("rejected.jsonl") {
		time.Sleep(time.Millisecond)
	}
	drain() // the last acknowledgement has found no room by now
	if seq, rejected := awaitAck(t, acks.r, 3); seq != 2 || rejected != 1 {
		t.Errorf("seq %d, rejected %d", seq, rejected)
	}
	w.wait()
}

// An acknowledgement that did not fit in the pipe is sent once the reader
// drains it, without more input.
func TestAck_pipe_drained(t *testing.T) {
	g := newGuest(t)
	acks, in := g.withAcks(), newPipe(t)
	drain := fill(t, acks)
	g.In = int(in.r.Fd())
	r := newRunner(&g.Stream)
	r.acker.decided, r.acker.acked = 5, 4
	r.acker.send(0)
	if r.acker.pendingFD() < 0 {
		t.Fatal("there was room")
	}
	ended := make(chan event)
	go func() {
		e := nothing
		for e == nothing || (e == input && !r.lines.ended) {
			e = r.waitForInput(-1)
		}
		ended <- e
	}()
	drain()
	awaitAck(t, acks.r, 5)
	in.w.Close()
	if e := <-ended; e != input {
		t.Errorf("event %d at the end of the input", e)
	}
}

func TestAck_full_pipe_at_end(t *testing.T) {
	g := newGuest(t)
	g.Grace = time.Millisecond
	fill(t, g.withAcks())
	g.feed("KIND=ready\n")

	g = newGuest(t)
	g.Grace = time.Hour
	fill(t, g.withAcks())
	w := g.open()
	w.print("KIND=ready\n")
	testenv.Must(t, w.in.Close())
	w.requestStop()
	w.requestStop()
	w.wait()
}

func TestAck_reader_gone(t *testing.T) {
	g := newGuest(t)
	acks := g.withAcks()
	acks.r.Close()
	g.warn = make(chan string, 100)
	w := g.open()
	w.print("KIND=ready\n")
	w.waitForWarning("write an acknowledgement to descriptor")
	w.print("KIND=ready\nSTATE=failed\n")
	w.close()
	if n := strings.Count(g.read("events.jsonl"), "\n"); n != 3 {
		t.Errorf("%d events", n)
	}
	if n := len(g.warned); n != 1 {
		t.Errorf("warnings:\n%s", g.warnings())
	}
}

// A pending acknowledgement is sent while the disk fails. The stream must not
// poll for it in a busy loop.
func TestAck_pending_while_disk_fails(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout = time.Hour
	acks := g.withAcks()
	free := g.block("rejected.jsonl")
	r := newRunner(&g.Stream)
	r.acker.decided, r.acker.acked, r.acker.seq = 5, 4, 3
	r.batch.rejects = []byte("{}\n")
	done := make(chan bool)
	go func() {
		for e := r.commit(); r.state.next(e).disk != healthy; e = r.retry() {
			r.state = r.state.next(e)
		}
		close(done)
	}()
	if seq, _ := awaitAck(t, acks.r, 5); seq != 3 {
		t.Errorf("seq %d", seq)
	}
	free()
	<-done
}
