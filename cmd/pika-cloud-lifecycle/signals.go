package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// stopSignals catches the signals that request a stop, and returns a channel of
// them.
func stopSignals() <-chan os.Signal {
	signal.Ignore(syscall.SIGPIPE) // the reader of acknowledgements or stderr may end
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		if !signal.Ignored(s) { // as nohup(1) and a shell's & arrange
			signal.Notify(signals, s)
		}
	}
	return signals
}

// makePipe creates a pipe that no other program inherits.
func makePipe(pipe *[2]int) error {
	err := unix.Pipe2(pipe[:], unix.O_CLOEXEC)
	switch err {
	case nil:
		return nil
	case unix.EMFILE:
		return fmt.Errorf("create a pipe: %w; raise the limit of open files (ulimit -n)", err)
	}
	return fmt.Errorf("create a pipe: %w", err)
}

// stopPipe returns a descriptor from which one byte can be read for each signal
// that requests a stop. At the first one, stopPipe calls in.closeWriters, so a FIFO ends
// with its last writer.
//
// If the input is a pipe, the first Ctrl-C is ignored: the terminal sends it to the
// whole foreground group, also to the program that writes to the pipe, and ingest
// must still read the last lines of that program.
//
// SIGTERM and SIGHUP that arrive together are one request: a service manager
// (systemd.kill(5), SendSIGHUP=) or a terminal that closes sends both, and the second
// request to stop would end the retries of a failed write.
func stopPipe(signals <-chan os.Signal, in input) (int, error) {
	var pipe [2]int
	if err := makePipe(&pipe); err != nil {
		return 0, err
	}
	go func() {
		ignoreInterrupt := dirfs.IsPipe(in.fd) && !in.manyRuns
		var first time.Time // when the first request was handled
		got := map[os.Signal]bool{}
		for s := range signals {
			if s == syscall.SIGINT && ignoreInterrupt {
				ignoreInterrupt = false
				continue
			}
			isFirst := len(got) == 0
			isSame := !isFirst && !got[s] && s != syscall.SIGINT && time.Since(first) < signalPause
			got[s] = true
			if isSame {
				continue
			}
			in.settle()
			if isFirst {
				first = time.Now() // the others may have arrived during settle
			}
			unix.Write(pipe[1], []byte{0})
			in.closeWriters()
		}
	}()
	return pipe[0], nil
}
