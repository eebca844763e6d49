// Package ingest reads a stream of directives, one a line, and commits them to
// the files of a state directory.
//
// Package directive decodes a line. The stream accepts a line as a whole, or rejects
// it and reports its number, the column and the expected text; other lines are not
// affected.
//
// One goroutine reads, decodes and writes. It reads as long as lines are available, and
// commits them together when the next read would block. While it writes, new lines wait
// in the pipe. A stream is a state machine: streamstate.go has its states, its events
// and the transition function, and docs/architecture.md has the same as a table. The
// parts are
//
//	waiter    waits for input, a request to stop, or space for an acknowledgement
//	lines     cuts the input into lines
//	handler   decodes a line: directives, or a copier for a stream with a Source
//	decider   accepts or rejects a directive, depending on the directives before it
//	batch     collects what the next commit writes
//	committer writes a batch in order, on disk or, in a dry run, as text
//	reporter  warns about write errors
//	acker     writes acknowledgements
//
// The package does not know flags, terminals or exit codes. Descriptors, the
// clock and the boot ID are passed in, and warnings are passed to Stream.Warn.
package ingest
