//go:build linux && amd64

package faulttest

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// ackFD is the descriptor on which ingest acknowledges.
const ackFD = 3

// A guest writes the parts of a scenario's input, and waits until each is
// acknowledged before it writes the next.
type guest struct {
	parts  [][]line
	hasty  bool            // it stops to wait once the fault has happened
	fired  <-chan struct{} // closed when the fault has happened
	stdin  *os.File        // the program's ends
	acks   *os.File
	in     *os.File // the guest's ends
	out    *os.File
	ended  chan struct{}
	number int // the last line acknowledged
}

func newGuest(s *scenario, fired <-chan struct{}, f fault) (*guest, error) {
	g := &guest{parts: s.feed, fired: fired, hasty: f.stays || f.act == hooked, ended: make(chan struct{})}
	if !s.ingests() {
		g.parts = nil
	}
	var err error
	if g.stdin, g.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	g.out, g.acks, err = os.Pipe()
	return g, err
}

// run writes and reads. It ignores errors: they mean that the program has ended.
func (g *guest) run() {
	acks := make(chan int, 1000)
	go readAcks(g.out, acks)
	written := 0
	for _, part := range g.parts {
		text := ""
		for _, l := range part {
			if l.text != "" { // the guest does not write what ingest supplies
				text += l.text + "\n"
				written++
			}
		}
		if _, err := io.WriteString(g.in, text); err != nil {
			break
		}
		g.await(acks, written)
	}
	g.in.Close()
	for n := range acks {
		g.number = n
	}
	close(g.ended)
}

// await waits until a line is acknowledged, or the program has ended.
func (g *guest) await(acks <-chan int, number int) {
	fired := g.fired
	if !g.hasty {
		fired = nil
	}
	for g.number < number {
		select {
		case n, ok := <-acks:
			if !ok {
				return
			}
			g.number = n
		case <-fired:
			return
		}
	}
}

func readAcks(from io.Reader, acks chan<- int) {
	defer close(acks)
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var number, seq, rejected int
		if n, _ := fmt.Sscan(lines.Text(), &number, &seq, &rejected); n == 3 {
			acks <- number
		}
	}
}

// wait returns the last line acknowledged. It is called when the program has
// ended.
func (g *guest) wait() int {
	g.stdin.Close()
	g.acks.Close()
	<-g.ended
	return g.number
}

func (g *guest) close() {
	for _, f := range []*os.File{g.stdin, g.acks, g.in, g.out} {
		f.Close()
	}
}
