// Package journal sends the events and results of a stream to the systemd
// journal, and decodes them from it again.
//
// A Mirror follows a stream and sends one journal entry for each event, result
// and rejected line. It never delays the stream: Committed adds to a bounded
// queue, and another goroutine sends the queue to journald's socket. The queue
// fills up while journald is stopped, busy or absent. An entry that does not fit
// is dropped and counted as missed; the files are not affected.
//
// A Rebuilder decodes such entries from the output of journalctl -o json --all
// and returns the events and results to an ingest.Stream, which writes a copy of
// the state directory.
//
// docs/journal.md lists the fields and the MESSAGE_IDs, and docs/catalog explains
// each MESSAGE_ID to an operator.
package journal
