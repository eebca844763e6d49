// Package ingest reads a stream of directives, one a line, and commits them to
// the artifacts of a state directory.
//
// A line is JSON or KEY=value; docs/protocol.md is its grammar. What a line
// asks for is taken whole or the line is refused, with its number, the column,
// and what was expected there; its neighbours are none the worse.
//
// One goroutine reads, decides and commits, and the pipe is the buffer: what
// has arrived is committed in one go when the next read would block. The
// states of a stream, and what each does with a directive, an error, the end
// of the input and a signal, stand as a table in docs/architecture.md.
//
// The package does not know flags, terminals or exit codes. Descriptors, the
// clock and the boot ID are given to it, and what an operator should know is
// handed to Stream.Say.
package ingest
