package main

import (
	"fmt"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
)

// showCaret prints a rejected line to stderr, and a caret below the offset at which
// it was rejected.
func (a *app) showCaret(line []byte, offset int) {
	offset = min(offset, len(line))
	const indent = 4
	columns, _ := columnsOf(a.stderr)
	if columns < 40 {
		columns = 80
	}
	before := timeline.Printable(string(line[:offset]))
	text := before + timeline.Printable(string(line[offset:]))
	text, column := timeline.Window(text, len(before), columns-indent-1)
	space := strings.Repeat(" ", indent)
	fmt.Fprintf(a.stderr, "%s%s\n%s%s^\n", space, text, space, strings.Repeat(" ", column))
}
