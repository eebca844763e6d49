// Package directive decodes one line of input, JSON or KEY=value, to one
// directive. docs/protocol.md has the grammar.
//
// A line is either decoded completely or rejected. An [Error] gives the offset,
// what is wrong there, what was expected, and the nearest choice. The package
// does no I/O and keeps no state between lines.
package directive
