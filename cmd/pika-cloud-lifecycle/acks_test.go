package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// ingest acknowledges a line only after it has written the files.
func TestAck_line_in_files(t *testing.T) {
	t.Parallel()
	p := start(t)
	states := []string{"requested", "provisioning", "booted", "starting", "ready", "failed"}
	for i, state := range states {
		p.write("STATE=" + state)
		if line, seq, rejected := p.ack(); line != i+1 || seq != i+1 || rejected != 0 {
			t.Fatalf("acknowledgement %d %d %d of line %d", line, seq, rejected, i+1)
		}
		p.hasEvents(i + 1)
		p.contains("status.json", fmt.Sprintf(`"state": %q`, state))
		p.contains("status.json", fmt.Sprintf(`"seq": %d`, i+1))
	}
	p.contains("result.json", `"status": "failed"`)
	p.in.Close()
	p.exits(exitOK)
	if more := p.moreAcks(); more != "" {
		t.Errorf("unexpected further acknowledgements: %q", more)
	}
}

// ingest acknowledges a rejected line after it has written rejected.jsonl.
func TestAck_rejected_line(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.write("bad")
	if line, seq, rejected := p.ack(); line != 1 || seq != 0 || rejected != 1 {
		t.Errorf("acknowledgement %d %d %d", line, seq, rejected)
	}
	p.contains("rejected.jsonl", `"raw":"bad"`)
	p.write("", "# nothing", "STATE=ready")
	if seq, rejected := p.ackUpTo(4); seq != 1 || rejected != 1 {
		t.Errorf("acknowledgement %d %d", seq, rejected)
	}
	p.in.Close()
	p.exits(exitRejected)
}

// The sequence number in an acknowledgement is that of the last event in the log.
func TestAck_seq(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := `{"schema_version":1,"kind":"booted","timestamp":"2026-03-25T20:00:00Z","message":"m","seq":41}` + "\n"
	if err := os.WriteFile(dir+"/events.jsonl", []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startIn(t, dir, nil)
	p.write("STATE=starting", "STATE=ready")
	if seq, _ := p.ackUpTo(2); seq != 43 {
		t.Errorf("acknowledged seq %d, want 43", seq)
	}
	p.in.Close()
	p.exits(exitOK)
}

func TestAck_cumulative(t *testing.T) {
	t.Parallel()
	const n = 20000
	p := start(t)
	go func() {
		w := bufio.NewWriter(p.in)
		for i := range n {
			fmt.Fprintf(w, "KIND=ready MESSAGE=%d\n", i)
		}
		w.Flush()
		p.in.Close()
	}()
	last := 0
	for last < n {
		line, seq, _ := p.ack()
		if line <= last || seq != line {
			t.Fatalf("acknowledged line %d, seq %d after line %d", line, seq, last)
		}
		last = line
	}
	p.exits(exitOK)
	p.hasEvents(n)
}

// If the pipe for acknowledgements is full, ingest continues, and sends the last
// acknowledgement when the pipe has space.
func TestAck_slow_reader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fillPipe(t, w)
	p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{w} }, "--grace", "1h", "--require-result")
	w.Close()
	p.write("STATE=booted", "bad 1", "STATE=ready", "bad 2", "STATE=ready", "bad 3")
	p.in.Close()
	p.await("status.json", `"state": "failed"`) // the last commit; only the acknowledgement is missing
	acks := bufio.NewReader(r)
	var got []string
	for {
		line, err := acks.ReadString('\n')
		got = append(got, strings.TrimLeft(line, "\x00"))
		if err != nil {
			break
		}
	}
	p.exits(exitRejected)
	if last := got[max(0, len(got)-2)]; last != "6 4 3\n" {
		t.Errorf("the last acknowledgements are %q", got)
	}
	p.hasEvents(4)
}

// If nothing reads the acknowledgements, ingest ends after the grace period.
func TestAck_stuck_reader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fillPipe(t, w)
	p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{w} }, "--grace", "50ms")
	w.Close()
	p.write("STATE=booted", "STATE=failed")
	p.in.Close()
	p.exits(exitOK)
	p.hasEvents(2)
}
