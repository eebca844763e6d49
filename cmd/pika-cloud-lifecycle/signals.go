package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// stopSignals catches the signals that ask a stream to stop, and returns them.
func stopSignals() <-chan os.Signal {
	signal.Ignore(syscall.SIGPIPE) // the reader of acks or stderr may go away
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		if !signal.Ignored(s) { // as nohup(1) and a shell's & ask for
			signal.Notify(signals, s)
		}
	}
	return signals
}

// stopPipe returns a descriptor from which one byte can be read for each signal
// that requests a stop. With the first one, a FIFO is no longer kept open, so it
// ends with its last writer.
//
// The first Ctrl-C is ignored if the input is a pipe: it reaches the whole
// foreground group and is meant for the program that writes to the pipe, whose
// last lines are still to be read.
func stopPipe(signals <-chan os.Signal, in input) (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe", err)
	}
	go func() {
		ignoreInterrupt := isPipe(in.fd) && !in.manyRuns
		for s := range signals {
			if s == syscall.SIGINT && ignoreInterrupt {
				ignoreInterrupt = false
				continue
			}
			unix.Write(pipe[1], []byte{0})
			if in.keepOpen > 0 {
				unix.Close(in.keepOpen)
				in.keepOpen = 0
			}
		}
	}()
	return pipe[0], nil
}
