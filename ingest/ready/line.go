package ready

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// maxText is how many bytes of the first line become part of the message. An address fits.
const maxText = 1000

// A Line waits for the first line on a pipe, which means that the service is ready.
//
// Receive reads the pipe to its end, also after the first line: the service must neither
// block nor get SIGPIPE. Drain does the same on another goroutine, for what has arrived.
type Line struct {
	// Write is the write end, for the service. The caller closes it when the service has
	// been started.
	Write int

	read    int
	reports *ingest.Reports
	warn    func(text string)

	mu      sync.Mutex // held while a chunk is read and handled
	chunk   [64 << 10]byte
	text    []byte // the start of the first line
	long    bool   // text is not all of it
	isReady bool   // the first line has ended
	ended   bool
}

// NewLine creates the pipe. warn is called if it ends before the first line does.
func NewLine(reports *ingest.Reports, warn func(text string)) (*Line, error) {
	var pipe [2]int
	err := unix.Pipe2(pipe[:], unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a pipe: %w", err)
	}
	_ = unix.SetNonblock(pipe[0], true) // never fails
	return &Line{Write: pipe[1], read: pipe[0], reports: reports, warn: warn}, nil
}

// Receive reads the pipe until no process has its write end any more.
func (l *Line) Receive() {
	for {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(l.read), Events: unix.POLLIN}}, -1)
		for l.next() {
		}
		if l.hasEnded() {
			return
		}
	}
}

func (l *Line) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// Drain reads what is in the pipe. It must be called when the service has ended, before the
// result is recorded.
func (l *Line) Drain() {
	const chunks = 1 << 20 >> 16 // as much as a pipe of the largest usual size has (pipe(7))
	for range chunks {
		if !l.next() {
			return
		}
	}
}

// IsPending reports whether the pipe is open, and its first line has not ended.
func (l *Line) IsPending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.isReady && !l.ended
}

// next reads and handles one chunk. It returns false if there is none now.
func (l *Line) next() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	n, err := dirfs.RetryInt(func() (int, error) { return unix.Read(l.read, l.chunk[:]) })
	if err == unix.EAGAIN {
		return false
	}
	if n <= 0 {
		l.end()
		return false
	}
	l.add(l.chunk[:n])
	return true
}

// add handles text that was read.
func (l *Line) add(text []byte) {
	if l.isReady {
		return
	}
	line, _, complete := bytes.Cut(text, []byte{'\n'})
	kept := line[:min(len(line), maxText-len(l.text))]
	l.long = l.long || len(kept) < len(line)
	l.text = append(l.text, kept...)
	if complete {
		l.isReady = true
		l.report()
	}
}

// report reports ready, with the first line in the message.
func (l *Line) report() {
	text := bytes.TrimSuffix(l.text, []byte{'\r'})
	if len(text) == 0 { // as s6 recommends
		l.reports.Ready(nil)
		return
	}
	message := "ready: " + string(text)
	if l.long {
		message = strings.ToValidUTF8(message, "") + "…" // the cut may be within a character
	}
	l.reports.Ready(&message)
}

// end is called when no process has the write end any more. The read end stays open, because
// the other goroutine may be about to poll it: a closed number could be that of another file.
func (l *Line) end() {
	l.ended = true
	switch {
	case l.isReady:
	case len(l.text) > 0:
		l.warn("the descriptor was closed before the end of the first line, so ready is not recorded; end the line with a newline")
	default:
		l.warn("the descriptor was closed before a line was written, so ready is not recorded; check that the command writes to it")
	}
}
