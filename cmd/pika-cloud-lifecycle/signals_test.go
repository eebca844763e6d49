package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// acknowledgedLines is how many lines a test writes after a signal, each after the previous
// one is acknowledged. This takes so long that the signal arrives before the last line.
const acknowledgedLines = 100

// writeAndAwait writes events, from line number line on, and waits for each to be
// acknowledged. It returns the number of the last line.
func (p *process) writeAndAwait(line int) int {
	p.Helper()
	for end := line + acknowledgedLines; line < end; line++ {
		p.write(fmt.Sprintf("KIND=ready MESSAGE=%d", line))
		if got, seq, _ := p.ack(); got != line || seq != line {
			p.Fatalf("line %d was acknowledged as line %d, seq %d", line, got, seq)
		}
	}
	return line - 1
}

// After SIGTERM or SIGHUP, ingest reads its input to the end.
func TestSignal_input_read_to_end(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p := start(t, "--grace", "1h")
			p.write("STATE=booted")
			p.ackUpTo(1)
			p.signal(s)
			last := p.writeAndAwait(2)
			p.write("STATE=completed MESSAGE=after")
			p.in.Close()
			p.exits(exitOK)
			p.contains("result.json", `"message": "after"`)
			p.hasEvents(last + 1)
		})
	}
}

// If the input does not end, ingest stops after the grace period.
func TestSignal_grace_ends(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "50ms", "--require-result")
	p.write("STATE=ready")
	p.ackUpTo(1)
	p.signal(syscall.SIGTERM)
	p.exits(exitOK) // although the input is still open
	p.contains("result.json", `"reason":"stream_ended"`)
	p.hasEvents(2)
}

func TestSignal_zero_grace(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "0s")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.signal(syscall.SIGTERM)
	// These lines take far less time than the default grace period.
	accepted := 0
	for ; accepted < 2*acknowledgedLines; accepted++ {
		if _, err := p.in.WriteString("STATE=booted\n"); err != nil {
			break
		}
		if _, err := p.acks.ReadString('\n'); err != nil {
			break
		}
	}
	if accepted == 2*acknowledgedLines {
		t.Errorf("%d lines were accepted after the signal", accepted)
	}
	p.exits(exitOK)
}

func TestSignal_second_sigterm(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "1h")
	p.write("STATE=ready")
	p.ackUpTo(1)
	p.signal(syscall.SIGTERM)
	p.writeAndAwait(2) // otherwise the kernel could merge the two signals
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	p.contains("status.json", `"state": "ready"`)
}

// Input that arrived before the signal is committed, even if its newline is missing.
func TestSignal_incomplete_line_committed(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "50ms")
	p.write("STATE=booted")
	p.ackUpTo(1)
	if _, err := p.in.WriteString(`{"state":"ready"}`); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	p.contains("status.json", `"state": "ready"`)
}

// If the input is a pipe, the first SIGINT is ignored.
func TestSignal_sigint_pipe(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "50ms")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.signal(syscall.SIGINT)
	// This takes longer than the grace period: the signal was ignored.
	last := p.writeAndAwait(2)
	p.signal(syscall.SIGINT)
	p.exits(exitOK)
	p.hasEvents(last)
}

// If the input is not a pipe, the first SIGINT requests a stop.
func TestSignal_sigint_socket(t *testing.T) {
	t.Parallel()
	// Like a terminal, a socket does not end before its peer closes it.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	end, stdin := os.NewFile(uintptr(pair[0]), "end"), os.NewFile(uintptr(pair[1]), "stdin")
	defer end.Close()
	p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stdin = stdin }, "--grace", "50ms")
	stdin.Close()
	if _, err := end.WriteString("STATE=ready\n"); err != nil {
		t.Fatal(err)
	}
	p.ackUpTo(1)
	p.signal(syscall.SIGINT)
	p.exits(exitOK)
}

// A signal that the parent process ignored stays ignored.
func TestSignal_ignored_at_start(t *testing.T) {
	testenv.Tool(t, "bash")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			ignore := func(cmd *exec.Cmd) { // as nohup(1) does
				cmd.Args = append([]string{"bash", "-c", fmt.Sprintf(`trap "" %d; exec "$@"`, int(s)), "-"}, cmd.Args...)
				path, err := exec.LookPath("bash")
				if err != nil {
					t.Fatal(err)
				}
				cmd.Path = path
			}
			p := startIn(t, t.TempDir(), ignore, "--grace", "0s")
			p.write("STATE=booted")
			p.ackUpTo(1)
			p.signal(s)
			p.signal(s)
			last := p.writeAndAwait(2)
			p.signal(s)
			p.in.Close()
			p.exits(exitOK)
			p.hasEvents(last)
		})
	}
}

// ingest continues if the readers of stderr and of the acknowledgements close their pipes.
func TestSignal_readers_closed(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.write("bad", "STATE=booted")
	p.ackUpTo(2)
	p.awaitStderr("line 1, column 1")
	p.closeReaders(t)
	p.write("bad", "STATE=ready", "bad", "STATE=failed MESSAGE=last")
	p.in.Close()
	p.awaitEnd()
	if code := p.cmd.ProcessState.ExitCode(); code != exitRejected {
		t.Errorf("%v, want exit code %d", p.cmd.ProcessState, exitRejected)
	}
	p.contains("result.json", `"message": "last"`)
	p.hasEvents(3)
}

// SIGTERM and SIGHUP that arrive together are one request, even if it takes long until
// everything has arrived in the first FIFO.
func TestStopPipe_slow_FIFO(t *testing.T) {
	var pipe [2]int
	testenv.Must(t, makePipe(&pipe))
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	slow := new(fifoCopy)
	slow.mu.Lock()
	time.AfterFunc(signalPause+100*time.Millisecond, func() {
		slow.ended = true
		slow.mu.Unlock()
	})
	signals := make(chan os.Signal)
	stop, err := stopPipe(signals, input{fd: pipe[0], watch: &fifoWatch{first: -1, write: -1, copies: []*fifoCopy{slow}}})
	testenv.Must(t, err)
	signals <- syscall.SIGTERM
	signals <- syscall.SIGHUP
	signals <- syscall.SIGINT // it is ignored, and received after the others were handled
	requests, err := unix.IoctlGetInt(stop, unix.TIOCINQ)
	if err != nil || requests != 1 {
		t.Errorf("%d requests, %v", requests, err)
	}
}
