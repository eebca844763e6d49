package ingest

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// Readers that split a file into lines as their language does it. Each is given the path
// of a file, loads each line, prints what does not load, and last how many it has loaded.
var lineReaders = map[string][]string{
	"python3": {"-c", `
import json, sys
loaded = 0
for line in open(sys.argv[1], encoding='utf-8', newline='').read().splitlines():
    try: json.loads(line); loaded += 1
    except Exception as e: print(e, ascii(line[:200]))
print(loaded)
`},
	// The expression is that of readline in Node.js 24; older versions end lines only at CR and LF.
	"node": {"-e", `
let loaded = 0
const lines = require('fs').readFileSync(process.argv[1], 'utf8').split(/\r?\n|\r(?!\n)|\u2028|\u2029/)
if (lines.at(-1) === '') lines.pop()
for (const line of lines) {
  try { JSON.parse(line); loaded++ } catch (e) { console.log(e.message, JSON.stringify(line.slice(0, 200))) }
}
console.log(loaded)
`},
}

// loadLines returns what a line reader prints about a file.
func loadLines(t *testing.T, name, path string) string {
	t.Helper()
	args := append(slices.Clone(lineReaders[name]), path)
	out, err := exec.Command(testenv.Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// separators are all characters at which str.splitlines of Python ends a line, except LF
// and CR, and their neighbours.
const separators = "\v\f\x1c\x1d\x1e\u0085\u2028\u2029\x1b\x1f\u0084\u0086\u2027\u202a"

// separatorText returns a text with some of the separators.
func separatorText(rnd *rand.Rand) string {
	all := append([]rune(separators), 'a', 'é', '😀')
	var b strings.Builder
	for range 1 + rnd.IntN(4) {
		b.WriteRune(all[rnd.IntN(len(all))])
	}
	return b.String()
}

// inJSON returns text for a JSON string: control characters must be escaped there, all
// others stay as they are, or are escaped if escaped is true.
func inJSON(text string, escaped bool) string {
	var b strings.Builder
	for _, r := range text {
		if r < ' ' || (escaped && r < 0x10000) {
			fmt.Fprintf(&b, `\u%04X`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Every line of both logs is one line for readers that also end lines at U+0085, U+2028
// and U+2029.
func TestOutput_lines_in_other_readers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2028, 2029))
	text := func() string { return separatorText(rnd) }
	quoted := func() string { return `"` + inJSON(text(), rnd.IntN(2) == 0) + `"` }
	var input strings.Builder
	for range 400 {
		fmt.Fprintf(&input, "KIND=ready MESSAGE=%s DETAILS.%s=%s\n", text(), text(), text())
		fmt.Fprintf(&input, `{"kind":"ready","message":%s,"details":{%s:[%s,{%s:1}]}}`+"\n", quoted(), quoted(), quoted(), quoted())
		fmt.Fprintf(&input, "%s\nSTATE=%s\n{%s:1}\n", "x"+text(), text(), quoted()) // rejected
	}
	g := newGuest(t)
	g.feed(input.String())
	events, rejects := g.checkModel()
	if len(events) != 800 || len(rejects) != 1200 {
		t.Fatalf("%d events, %d rejected lines", len(events), len(rejects))
	}
	for name := range lineReaders {
		t.Run(name, func(t *testing.T) {
			for file, want := range map[string]int{"events.jsonl": len(events), "rejected.jsonl": len(rejects)} {
				if got := loadLines(t, name, g.file(file)); got != fmt.Sprint(want) {
					t.Errorf("%s: %d lines, of which it loads\n%s", file, want, clip(got))
				}
			}
		})
	}
}

// The line readers of the test above do end lines at these characters.
func TestLineReaders_separators(t *testing.T) {
	for name, ends := range map[string]string{"python3": "\u0085\u2028\u2029", "node": "\u2028\u2029"} {
		t.Run(name, func(t *testing.T) {
			for _, r := range ends {
				g := newGuest(t)
				g.write("events.jsonl", `{"message":"a`+string(r)+`b"}`+"\n")
				if got := loadLines(t, name, g.file("events.jsonl")); !strings.HasSuffix(got, "\n0") {
					t.Errorf("%U does not end a line:\n%s", r, got)
				}
			}
		})
	}
}
