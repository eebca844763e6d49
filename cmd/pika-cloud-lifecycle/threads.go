package main

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads startThreads starts. At any time the Go runtime needs
// one for each of maxProcs, and one for each goroutine that is in a system call or about to
// leave it: the stream, a wait for a lock, the goroutine that watches the command, the
// mirror, and two notifiers. Those of --tail, --ready and --fifo have threads of their own.
const (
	spareThreads = maxProcs + 6
	maxProcs     = 2 // threads that run Go code at the same time
)

// startOnThread runs f on a goroutine that has a thread of its own from the start: when f
// leaves a system call later, the command of run may have reached the limit of processes.
func startOnThread(f func()) {
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		f()
	}()
	<-started
}

// startThreads starts all threads that this process may need. The Go runtime crashes
// if it cannot start one, for example because the command or another process of the same
// user or cgroup has reached the limit of processes. It does not end idle threads.
//
// A goroutine that is locked to its thread and waits keeps the thread from running
// another one, so all of them together need so many threads.
func startThreads() {
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), maxProcs))
	var started, ended sync.WaitGroup
	release := make(chan struct{})
	for range spareThreads {
		started.Add(1)
		ended.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			<-release
		})
	}
	started.Wait()
	close(release)
	ended.Wait()
}
