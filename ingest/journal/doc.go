// Package journal knows what a lifecycle's entries in the systemd journal are,
// both ways.
//
// A Mirror follows a stream and sends one entry for each event, result and
// refused line. It cannot hurt the stream: what it is told it puts into a
// bounded queue, which a goroutine of its own empties into journald's socket.
// Where that is stopped, full or gone the queue waits; what no longer fits is
// counted and lost to the journal, not to the artifacts.
//
// A Log is the way back: it reads what journalctl -o json --all prints of such
// entries, and gives an ingest.Stream the events and results as they were.
//
// docs/journal.md lists the fields and their MESSAGE_IDs, and docs/catalog
// explains each to an operator.
package journal
