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

// A guest writes the input of a scenario. It waits until ingest has acknowledged
// each part before it writes the next.
type guest struct {
	parts   [][]line
	givesUp bool            // it stops waiting for acknowledgements once the fault has happened
	fired   <-chan struct{} // closed when the fault has happened
	stdin   *os.File        // the program's ends of the pipes
	acks    *os.File
	in      *os.File // the guest's ends of the pipes
	out     *os.File
	ended   chan struct{}
	number  int // of the last acknowledged line
}

func newGuest(s *scenario, fired <-chan struct{}, f fault) (*guest, error) {
	g := &guest{parts: s.feed, fired: fired, givesUp: f.persists || f.act == hooked, ended: make(chan struct{})}
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

// run writes the input and reads the acknowledgements. It ignores errors, because
// they mean that the program has ended.
func (g *guest) run() {
	acks := make(chan int, 1000)
	go readAcks(g.out, acks)
	written := 0
	for _, part := range g.parts {
		text := ""
		for _, l := range part {
			if l.text != "" { // ingest itself writes the fallback result
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
	if !g.givesUp {
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

// wait returns the number of the last acknowledged line. It must be called after the
// program has ended.
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
