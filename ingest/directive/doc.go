// Package directive decodes one line of input, JSON or KEY=value, to one
// directive. docs/protocol.md is the grammar.
//
// A line is either decoded completely or rejected, with the offset, what was
// expected there, and the nearest choice. The package does no I/O and keeps no
// state between lines.
package directive
