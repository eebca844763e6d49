package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A heavyInput is a stream that needs much memory.
type heavyInput struct {
	name     string
	input    string
	exitCode int
}

// repeated returns as many copies of unit as fit into size bytes.
func repeated(unit string, size int) string { return strings.Repeat(unit, size/len(unit)) }

// heavyInputs returns streams whose lines have 1 MiB, the maximum, or are many.
func heavyInputs() []heavyInput {
	const (
		line = 1<<20 - 100
		json = `{"state":"ready","details":`
	)
	object := func(unit string) string { return json + "{" + strings.TrimSuffix(repeated(unit, line), ",") + "}}\n" }
	var unique strings.Builder
	unique.WriteString(json + `{"":0`)
	for i := 0; unique.Len() < line; i++ {
		fmt.Fprintf(&unique, `,"%x":0`, i)
	}
	unique.WriteString("}}\n")
	var names strings.Builder
	names.WriteString("STATE=ready")
	for i := range 256 {
		fmt.Fprintf(&names, " DETAILS.%d=%s", i, repeated("\x01", line/256-20))
	}
	names.WriteString("\n")
	list := []heavyInput{
		{"repeated names", object(`"":0,`), exitOK},
		{"repeated names of objects", object(`"":{"":0,"":1},`), exitOK},
		{"unique names", unique.String(), exitOK},
		{"nested arrays", json + "[" + repeated(strings.Repeat("[", 63)+strings.Repeat("]", 63)+",", line) + "0]}\n", exitOK},
		{"not finite", json + "[" + repeated("NaN,", line) + "0]}\n", exitOK},
		{"escapes", `{"state":"ready","message":"` + repeated(`\u0001`, line) + "\"}\n", exitOK},
		{"line separators", `{"state":"ready","message":"` + repeated("\u0085", line) + "\"}\n", exitOK},
		{"invalid UTF-8", `{"state":"ready","message":"` + repeated("\xff", line) + "\"}\n", exitOK},
		{"control characters", "STATE=ready MESSAGE=" + repeated("\x01", line) + "\n", exitOK},
		{"control characters in quotes", "STATE=ready MESSAGE=\"" + repeated("\x01", line/2) + "\" DETAILS.x=\"" + repeated("\x01", line/2) + "\"\n", exitOK},
		{"DETAILS.name", names.String(), exitOK},
		{"long lines rejected", repeated("\x01", line) + "\n", exitRejected},
	}
	var all strings.Builder
	for i := range list {
		all.WriteString(list[i].input)
		list[i].input = strings.Repeat(list[i].input, 6)
	}
	const rotation = 128 << 20 / (6 * line) // so many lines that the log is rotated, and its last line read
	return append(list,
		heavyInput{"rotation", strings.Repeat("KIND=ready MESSAGE="+repeated("\x01", line)+"\n", rotation), exitOK},
		heavyInput{"all of them", all.String() + all.String(), exitRejected},
		heavyInput{"a result", "STATE=failed MESSAGE=" + repeated("\x01", line) + "\n", exitOK},
		heavyInput{"small lines rejected", repeated("x\n", 1<<19), exitRejected},
		heavyInput{"small events", repeated("KIND=ready\n", 4<<20), exitOK},
	)
}

// TestMemory checks that no input needs more than 32 MiB.
func TestMemory(t *testing.T) {
	built := builtProgram(t)
	for _, c := range heavyInputs() {
		t.Run(c.name, func(t *testing.T) {
			p := startIn(t, testenv.TempDir(t), built)
			go func() {
				p.in.Write([]byte(c.input)) // it fails if the program ends, which the acknowledgements show
			}()
			p.ackUpTo(strings.Count(c.input, "\n"))
			used := p.peakMemory()
			p.in.Close()
			p.exits(c.exitCode)
			t.Logf("peak memory %.1f MiB", float64(used)/1024)
			if used > floodMemory {
				t.Errorf("%d KiB of memory; expected %d at most", used, floodMemory)
			}
		})
	}
}
