package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// roundTrips is how many lines are written and acknowledged one by one after a
// signal: more than a signal can possibly take to arrive.
const roundTrips = 100

// converse writes events and waits for each to be acknowledged. It returns the
// number of the last line, given that of the first.
func (p *process) converse(line int) int {
	p.Helper()
	for end := line + roundTrips; line < end; line++ {
		p.write(fmt.Sprintf("KIND=ready MESSAGE=%d", line))
		if got, seq, _ := p.ack(); got != line || seq != line {
			p.Fatalf("line %d was acknowledged as line %d, seq %d", line, got, seq)
		}
	}
	return line - 1
}

func TestAfterSIGTERMAndSIGHUPTheInputIsReadToItsEnd(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p := start(t, "--grace", "1h")
			p.write("STATE=booted")
			p.ackUpTo(1)
			p.signal(s)
			last := p.converse(2)
			p.write("STATE=completed MESSAGE=after")
			p.in.Close()
			p.exits(exitOK)
			p.holds("result.json", `"message": "after"`)
			p.seqs(last + 1)
		})
	}
}

func TestAfterSIGTERMTheGraceEndsAnInputThatDoesNot(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "50ms", "--require-result")
	p.write("STATE=ready")
	p.ackUpTo(1)
	p.signal(syscall.SIGTERM)
	p.exits(exitOK) // though in is open
	p.holds("result.json", `"reason":"stream_ended"`)
	p.seqs(2)
}

func TestAGraceOfZeroReadsNoMore(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "0s")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.signal(syscall.SIGTERM)
	// Far fewer lines than the default grace is long.
	taken := 0
	for ; taken < 2*roundTrips; taken++ {
		if _, err := p.in.WriteString("STATE=booted\n"); err != nil {
			break
		}
		if _, err := p.acks.ReadString('\n'); err != nil {
			break
		}
	}
	if taken == 2*roundTrips {
		t.Errorf("%d lines were taken after the signal", taken)
	}
	p.exits(exitOK)
}

func TestASecondSIGTERMEndsTheGrace(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "1h")
	p.write("STATE=ready")
	p.ackUpTo(1)
	p.signal(syscall.SIGTERM)
	p.converse(2) // two pending signals of a kind would be one
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	p.holds("status.json", `"state": "ready"`)
}

func TestWhatArrivedBeforeASignalIsCommittedThoughTheLineIsCut(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "50ms")
	p.write("STATE=booted")
	p.ackUpTo(1)
	if _, err := p.in.WriteString(`{"state":"ready"}`); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	p.holds("status.json", `"state": "ready"`)
}

func TestSIGINTIsIgnoredOnceWhileTheInputIsAPipe(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "50ms")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.signal(syscall.SIGINT)
	// Far beyond the grace: it was no signal to end.
	last := p.converse(2)
	p.signal(syscall.SIGINT)
	p.exits(exitOK)
	p.seqs(last)
}

func TestSIGINTActsAtOnceWhereTheInputIsNoPipe(t *testing.T) {
	t.Parallel()
	// A socket has no end before its peer closes it, as a terminal has none.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stdin = theirs }, "--grace", "50ms")
	theirs.Close()
	if _, err := ours.WriteString("STATE=ready\n"); err != nil {
		t.Fatal(err)
	}
	p.ackUpTo(1)
	p.signal(syscall.SIGINT)
	p.exits(exitOK)
}

func TestASignalThatWasIgnoredFromTheStartStaysSo(t *testing.T) {
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
			last := p.converse(2)
			p.signal(s)
			p.in.Close()
			p.exits(exitOK)
			p.seqs(last)
		})
	}
}

func TestAReaderOfStderrOrAcksThatGoesDoesNotKill(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.write("bad", "STATE=booted")
	p.ackUpTo(2)
	p.hear("line 1, column 1")
	p.closeReaders(t)
	p.write("bad", "STATE=ready", "bad", "STATE=failed MESSAGE=told")
	p.in.Close()
	p.end()
	if code := p.cmd.ProcessState.ExitCode(); code != exitRejected {
		t.Errorf("%v, want exit code %d", p.cmd.ProcessState, exitRejected)
	}
	p.holds("result.json", `"message": "told"`)
	p.seqs(3)
}
