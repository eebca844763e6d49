//go:build linux && amd64

package faulttest

import (
	"fmt"
	"strings"
	"testing"
)

// TestSecondWriter appends an event with a one-shot command at every call. Both events
// are in the log, with different seqs.
func TestSecondWriter(t *testing.T) {
	program, n := program(t), sampleOneIn(t, 60)
	var jobs []job
	for _, s := range scenarios() {
		command := s.args[0]
		if command == "status" || command == "result" || strings.Contains(s.name, "rotation") {
			continue // they do not use the log, or the other writer changes the point at which they rotate it
		}
		for _, c := range callsOf(t, program, &s) {
			jobs = append(jobs, job{s: &s, call: c.String(), newHook: startSecond, afterRun: waitForSecond, check: checkSecond,
				f: fault{act: hooked, at: c.n, label: ": another writer"}})
		}
	}
	sweepSample(t, program, "second writers", jobs, n, 990)
}

const secondMessage = "second"

// startSecond starts the other writer. It does not wait for it, because the other writer
// may wait for the lock that the stopped program holds.
func startSecond(b *bench) func(int) error {
	b.second = make(chan string, 1)
	return func(int) error {
		go func() {
			code, stderr, err := b.runUntraced("", "event", "--state-dir="+b.dir(), "--kind=ready", "--message="+secondMessage)
			b.second <- fmt.Sprintf("exit %d %v %s", code, err, stderr)
		}()
		return nil
	}
}

func waitForSecond(b *bench, _ *job, g *ledger) error {
	g.otherEvent = secondMessage
	if end := <-b.second; !strings.HasPrefix(end, "exit 0") {
		g.find(notRepaired, "the other writer: %s", end)
	}
	return nil
}

func checkSecond(b *bench, j *job, tl *trial, g *ledger) {
	count := 0
	for _, e := range readPicture(b.dir(), b.allows()).all() {
		if e.message == secondMessage {
			count++
		}
	}
	if count != 1 {
		g.find(lost, "the other writer's event is in the log %d times", count)
	}
	checkEnded(b, j, tl, g)
}
