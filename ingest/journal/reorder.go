package journal

import (
	"cmp"
	"slices"
	"time"
)

// The limits of a buffer.
const (
	// maxDelay is how long an entry is buffered until earlier ones arrive.
	// Processes that share a log send their entries within milliseconds. An entry
	// that the journal missed must not delay later ones for long.
	maxDelay = 2 * time.Second
	// maxBuffered limits the size of the buffered lines, in bytes. It is more than
	// arrives in maxDelay.
	maxBuffered = 32 << 20
)

// A buffer holds entries of one boot that arrived early, before entries with lower
// seqs. It contains each event and each result at most once. They are sorted by
// seq, and a result comes after its event. size is the number of bytes of their
// lines.
type buffer struct {
	entries []bufferedEntry
	size    int
}

type bufferedEntry struct {
	*entry
	size  int // of the line, in bytes
	added time.Time
}

// add adds e unless the buffer already contains it.
func (b *buffer) add(e bufferedEntry) {
	i, found := slices.BinarySearchFunc(b.entries, e, bufferedEntry.compare)
	if !found {
		b.entries = slices.Insert(b.entries, i, e)
		b.size += e.size
	}
}

func (e bufferedEntry) compare(other bufferedEntry) int {
	if c := cmp.Compare(e.seq, other.seq); c != 0 {
		return c
	}
	switch isResult := e.result != nil; {
	case isResult == (other.result != nil):
		return 0
	case isResult:
		return 1
	}
	return -1
}

func (b *buffer) isEmpty() bool { return len(b.entries) == 0 }

// first returns the first entry of a buffer that is not empty.
func (b *buffer) first() *entry { return b.entries[0].entry }

func (b *buffer) removeFirst() {
	b.size -= b.entries[0].size
	b.entries = b.entries[1:]
}

// isOverdue reports whether the first entry must no longer be buffered.
func (b *buffer) isOverdue(now time.Time) bool {
	return now.Sub(b.entries[0].added) >= maxDelay || b.size >= maxBuffered
}
