package main

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// maxLastOutput limits details.last_output, in bytes. Some 25 lines of a terminal fit.
const maxLastOutput = 2 << 10

// maxTailLines is the largest value of --tail. More lines than these rarely fit into
// maxLastOutput.
const maxTailLines = 100

// An outputTail passes the standard error of the command on to that of this process, and
// keeps the last lines of it.
//
// The goroutine that newOutputTail creates (passOn) reads from a pipe and writes to out. If
// the reader of out does not read, passOn blocks, and the command blocks once the pipe is
// full, as it would without the pipe. end takes what is then in the pipe, so the result
// does not wait for the reader of out; flush waits for it.
//
// Invariants:
//   - mu is held while a chunk is read from the pipe and added to kept, so the two have
//     the same order. It is not held during a write.
//   - Once ended is set, nothing is read from the pipe: end was called, and a child of the
//     command that still runs may write to it without limit, or out has no reader any
//     more, and the pipe is closed.
//   - kept is the end of the output so far.
type outputTail struct {
	lines int // --tail
	out   int // descriptor of the standard error of this process

	file    *os.File // the read end
	read    int      // its descriptor
	write   int      // the write end, which the command gets
	written atomic.Int64
	done    chan struct{} // passOn closes it

	mu    sync.Mutex
	kept  []byte
	ended bool
	rest  []byte // the output that was in the pipe at the end
}

// newOutputTail creates the pipe, and the thread that reads from it.
func newOutputTail(lines, out int) (*outputTail, error) {
	var pipe [2]int
	if err := makePipe(&pipe); err != nil {
		return nil, err
	}
	t := &outputTail{lines: lines, out: out, read: pipe[0], write: pipe[1], done: make(chan struct{})}
	_ = unix.SetNonblock(t.read, true) // never fails; os.NewFile then uses the poller
	t.file = os.NewFile(uintptr(t.read), "pipe")
	startOnThread(t.passOn)
	return t, nil
}

// passOn passes on what the command prints, until end is called.
func (t *outputTail) passOn() {
	defer close(t.done)
	chunk := make([]byte, 64<<10) // as much as a pipe usually has
	for {
		text, isLast := t.next(chunk)
		t.print(text)
		if isLast {
			return
		}
	}
}

// next waits for the next chunk. isLast reports that no other one follows.
func (t *outputTail) next(chunk []byte) (text []byte, isLast bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return t.rest, true
	}
	n, _ := t.file.Read(chunk) // an error only after end: the deadline
	t.keep(chunk[:n])
	return chunk[:n], false
}

// print writes to out, in pieces that a slow reader accepts within maxStuck. If out has no
// reader any more, print closes the pipe: the command then gets SIGPIPE or EPIPE, as it
// would without the pipe. Other errors, such as a full disk, cannot be passed back.
func (t *outputTail) print(text []byte) {
	const piece = 4 << 10
	for len(text) > 0 {
		n, err := unix.Write(t.out, text[:min(len(text), piece)])
		switch err {
		case nil:
			text = text[n:]
			t.written.Add(int64(n))
		case unix.EINTR:
		case unix.EAGAIN: // another process has made it non-blocking
			poll(t.out, unix.POLLOUT, -1)
		case unix.EPIPE:
			t.close()
			return
		default:
			return
		}
	}
}

func (t *outputTail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file.Close()
	t.ended = true
}

// keep adds a chunk to the end of kept. It keeps more than lastLines returns, so the start of a
// cut line is never mistaken for a whole one.
func (t *outputTail) keep(chunk []byte) {
	const limit = maxLastOutput + len("x\n")
	chunk = chunk[max(0, len(chunk)-limit):]
	t.kept = append(t.kept, chunk...)
	over := max(0, len(t.kept)-limit)
	t.kept = append(t.kept[:0], t.kept[over:]...)
}

// end takes what is in the pipe, after the command has ended, and returns the last lines
// of all that the command has printed. Only the first call reads the pipe.
func (t *outputTail) end() string {
	_ = t.file.SetReadDeadline(time.Unix(1, 0)) // ends a read that waits
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended, t.rest = true, readAvailable(t.read)
		t.keep(t.rest)
	}
	return lastLines(t.kept, t.lines)
}

// readAvailable returns what is in a pipe.
func readAvailable(fd int) []byte {
	size, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD of pipe(7)
	if err != nil {
		return nil
	}
	text := make([]byte, size)
	for have := 0; have < size; {
		n, err := unix.Read(fd, text[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return text[:have]
		}
		have += n
	}
	return text
}

// maxStuck is how long flush waits for a reader that does not read.
const maxStuck = 5 * time.Second

// flush waits until everything is passed on. It gives up when the reader of out has read
// nothing for maxStuck, because it may never read again, for example a terminal after
// Ctrl-S.
func (t *outputTail) flush() {
	t.end() // if the command was not started
	for before := int64(-1); before != t.written.Load(); {
		before = t.written.Load()
		select {
		case <-t.done:
			return
		case <-time.After(maxStuck):
		}
	}
}

// lastLines returns the last lines of a text as valid UTF-8, without the last newline: at
// most so many lines, and at most maxLastOutput bytes. All lines are whole, unless the last
// one is too long: then it returns "…" and the end of that one.
func lastLines(text []byte, lines int) string {
	all := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	i := len(all) - 1
	last := validText(all[i])
	if len(last) > maxLastOutput {
		const mark = "…"
		start := len(last) - maxLastOutput + len(mark)
		for !utf8.RuneStart(last[start]) {
			start++
		}
		return mark + last[start:]
	}
	for lines--; i > 0 && lines > 0; lines-- {
		i--
		line := validText(all[i])
		if len(line)+1+len(last) > maxLastOutput {
			break
		}
		last = line + "\n" + last
	}
	return last
}

// validText replaces each byte that is not valid UTF-8 by U+FFFD.
func validText(text string) string { return string([]rune(text)) }
