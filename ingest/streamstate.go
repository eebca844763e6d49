package ingest

// A phase is what a stream does with its input. The phases follow each other in
// this order; draining is skipped if the input ends by itself.
type phase uint8

const (
	opening       phase = iota // the supervisor's first transition is committed; nothing is read
	reading                    // lines are read and committed as they arrive
	draining                   // after a request to stop: reads until the input ends or the grace period is over
	closing                    // reads no more; commits the lines that were read
	concluding                 // adds the supervisor's result, or the fallback result
	finishing                  // the last commit
	acknowledging              // the last acknowledgement
	finished
)

// A disk describes how a stream deals with commits that fail.
type disk uint8

const (
	healthy disk = iota // the last commit succeeded
	// retrying: a commit failed, and the stream retries it after a pause. It reads
	// nothing: the input stays in the pipe, and nothing is lost.
	retrying
	// degraded: commits failed for the whole WriteTimeout, a commit failed and a stop
	// was requested twice, or the state directory was unusable at the start. The stream
	// reads on, so that the guest does not wait. It tries each file separately, at most
	// once a second, and drops events and rejected lines beyond maxBatch. A stream stays
	// degraded, even if commits succeed again.
	degraded
)

// A state is the state of a stream.
type state struct {
	phase phase
	disk  disk
	stops int // requests to stop, counted up to 2; after the second, the stream waits for nothing
}

// An event changes the state of a stream.
type event uint8

const (
	nothing       event = iota // time has passed
	input                      // input was read
	reported                   // Reports have something
	inputEnded                 // the input ended, or ExitOnResult is set and there is a result
	stopRequested              // a signal, or the end of the supervised command
	graceOver                  // a draining stream has read long enough
	written                    // a commit succeeded
	writeFailed                // a commit failed
	writeTimeout               // commits have failed for WriteTimeout, or finish gives up
	closed                     // a closing stream has no more to commit
	concluded                  // the result is in the batch
	acknowledged               // the last acknowledgement was written, or its reader was too slow
)

// next returns the state after an event.
func (s state) next(e event) state {
	switch e {
	case stopRequested:
		s = s.stopped()
	case inputEnded, graceOver:
		if s.phase == reading || s.phase == draining {
			s.phase = closing
		}
	case written:
		if s.disk == retrying {
			s.disk = healthy
		}
		s.phase = s.afterCommit()
	case writeFailed:
		gaveUp := s.disk == degraded && s.stops >= 2
		if s.disk == healthy {
			s.disk = retrying
		}
		if s.stops >= 2 {
			s.disk = degraded
		}
		if gaveUp || s.phase == opening {
			s.phase = s.afterCommit()
		}
	case writeTimeout:
		switch {
		case s.disk == retrying:
			s.disk = degraded
		case s.disk == degraded && s.phase == finishing:
			s.phase = s.afterCommit()
		}
	case closed:
		if s.phase == closing {
			s.phase = concluding
		}
	case concluded:
		if s.phase == concluding {
			s.phase = finishing
		}
	case acknowledged:
		if s.phase == acknowledging {
			s.phase = finished
		}
	}
	return s
}

// stopped returns the state after a request to stop. A second request ends the
// reading, and the waiting for a disk, immediately.
func (s state) stopped() state {
	s.stops = min(s.stops+1, 2)
	if s.stops < 2 {
		if s.phase == reading {
			s.phase = draining
		}
		return s
	}
	if s.phase == reading || s.phase == draining {
		s.phase = closing
	}
	if s.disk == retrying {
		s.disk = degraded
	}
	return s
}

// afterCommit returns the phase after a commit that succeeded or was given up.
func (s state) afterCommit() phase {
	switch {
	case s.phase == opening && s.stops == 0:
		return reading
	case s.phase == opening && s.stops == 1:
		return draining
	case s.phase == opening:
		return closing
	case s.phase == finishing:
		return acknowledging
	}
	return s.phase
}
