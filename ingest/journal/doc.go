// Package journal copies the events and results of a stream into the systemd
// journal, and back.
//
// A Mirror follows a stream and sends one journal entry for each event, result
// and rejected line. It never delays the stream: Committed adds to a bounded
// queue, which another goroutine sends to journald's socket. While journald is
// stopped, busy or absent the queue fills up; entries that no longer fit are
// counted as missed; the artifacts have them.
//
// A Rebuilder does the reverse: it reads such entries in the form that
// journalctl -o json --all prints, and returns the events and results to an
// ingest.Stream.
//
// docs/journal.md lists the fields and the MESSAGE_IDs; docs/catalog explains
// each MESSAGE_ID to an operator.
package journal
