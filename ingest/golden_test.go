package ingest

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

var update = flag.Bool("update", false, "write the expected artifacts of the golden streams again")

const goldenStreams = "../testdata/streams/golden-*"

// A golden stream is a folder that contains the file input, a folder before with the
// artifacts that exist when the stream starts, if there are any, and a folder after with
// all artifacts that exist when it has ended. The input ends with a newline, except where
// the missing newline is what the stream tests.
type golden struct {
	t             *testing.T
	path, input   string
	before, after map[string]string
}

func TestGoldenStreams(t *testing.T) {
	paths, err := filepath.Glob(goldenStreams)
	testenv.Must(t, err)
	if len(paths) == 0 {
		t.Fatalf("no %s", goldenStreams)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			gold := readGolden(t, path)
			gold.checkWhole()
			gold.checkChunks()
			gold.checkCRLF()
			gold.checkNonblocking()
			gold.checkCommits()
		})
	}
}

// Both syntaxes give the same artifacts.
func TestGoldenStreams_both_syntaxes(t *testing.T) {
	asJSON, asWords := readGolden(t, "../testdata/streams/golden-all-states-json"), readGolden(t, "../testdata/streams/golden-all-states-keyvalue")
	checkSame(t, "KEY=value", asWords.after, asJSON.after)
	if len(asJSON.after) == 0 || asJSON.input == asWords.input {
		t.Error("nothing was compared")
	}
}

func readGolden(t *testing.T, path string) *golden {
	input, err := os.ReadFile(filepath.Join(path, "input"))
	testenv.Must(t, err)
	return &golden{t: t, path: path, input: string(input),
		before: readFiles(t, filepath.Join(path, "before")), after: readFiles(t, filepath.Join(path, "after"))}
}

func readFiles(t *testing.T, path string) map[string]string {
	files := map[string]string{}
	names, err := filepath.Glob(filepath.Join(path, "*"))
	testenv.Must(t, err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		testenv.Must(t, err)
		files[filepath.Base(name)] = string(text)
	}
	return files
}

// guest returns the guest of the stream as it is at the start. The name of the folder
// determines its options: -required, -enforced, -short.
func (gold *golden) guest() *guest {
	g := newGuest(gold.t)
	for name, text := range gold.before {
		g.write(name, text)
	}
	g.RequireResult = strings.Contains(gold.path, "-required")
	if strings.Contains(gold.path, "-enforced") {
		g.Transitions = Enforce
	}
	if strings.Contains(gold.path, "-short") {
		g.MaxLine = 100
	}
	return g
}

func (gold *golden) checkWhole() {
	gold.t.Helper()
	g := gold.guest()
	g.feed(gold.input)
	if *update {
		gold.update(g.artifacts())
	}
	gold.check("whole", g)
}

func (gold *golden) update(files map[string]string) {
	after := filepath.Join(gold.path, "after")
	testenv.Must(gold.t, os.RemoveAll(after))
	testenv.Must(gold.t, os.MkdirAll(after, 0o755))
	for name, text := range files {
		testenv.Must(gold.t, os.WriteFile(filepath.Join(after, name), []byte(text), 0o644))
	}
	gold.after = files
}

func (gold *golden) check(how string, g *guest) {
	gold.t.Helper()
	checkSame(gold.t, how, g.artifacts(), gold.after)
}

// checkChunks feeds the stream byte by byte, and then in two chunks, split at each byte of
// a short input and at about 150 bytes of a long one.
func (gold *golden) checkChunks() {
	g := gold.guest()
	g.feedChunks(strings.Split(gold.input, "")...)
	gold.check("byte by byte", g)
	step := 1 + len(gold.input)/150 // every byte of the short ones
	for at := 1; at < len(gold.input) && !gold.t.Failed(); at += step {
		g := gold.guest()
		g.feedChunks(gold.input[:at], gold.input[at:])
		gold.check(fmt.Sprintf("split at byte %d", at), g)
	}
}

// checkCRLF feeds the stream with the line ends of Windows. Only the offsets of
// rejected lines differ then: each line before is longer by one.
func (gold *golden) checkCRLF() {
	input := strings.ReplaceAll(gold.input, "\n", "\r\n")
	want := maps.Clone(gold.after)
	if rejected, ok := want["rejected.jsonl"]; ok {
		want["rejected.jsonl"] = shiftOffsets(gold.t, rejected)
	}
	for _, chunks := range [][]string{{input}, strings.Split(input, ""), strings.SplitAfter(input, "\r")} {
		g := gold.guest()
		g.feedChunks(chunks...)
		checkSame(gold.t, fmt.Sprintf("CRLF in %d chunks", len(chunks)), g.artifacts(), want)
	}
}

var placeOfReject = regexp.MustCompile(`"line":(\d+),"offset":(\d+)`)

func shiftOffsets(t *testing.T, rejected string) string {
	return placeOfReject.ReplaceAllStringFunc(rejected, func(place string) string {
		var line, offset int
		_, err := fmt.Sscanf(place, `"line":%d,"offset":%d`, &line, &offset)
		testenv.Must(t, err)
		return `"line":` + strconv.Itoa(line) + `,"offset":` + strconv.Itoa(offset+line-1)
	})
}

// checkNonblocking feeds the stream through a pipe on which another process has set
// O_NONBLOCK, in pieces that fill it.
func (gold *golden) checkNonblocking() {
	g := gold.guest()
	w := g.open()
	w.print(gold.input)
	w.close()
	gold.check("through a pipe", g)

	g = gold.guest()
	p := newPipe(gold.t)
	testenv.Must(gold.t, unix.SetNonblock(int(p.r.Fd()), true))
	go func() {
		defer p.w.Close()
		for piece := range slices.Chunk([]byte(gold.input), 7) {
			p.w.Write(piece)
		}
	}()
	g.from(int(p.r.Fd()))
	gold.check("through a pipe that does not block", g)
}

// checkCommits feeds the stream line by line, each committed and acknowledged
// before the next is printed.
func (gold *golden) checkCommits() {
	g := gold.guest()
	acks := newPipe(gold.t)
	g.Ack = int(acks.w.Fd())
	w := g.open()
	lines := strings.SplitAfter(gold.input, "\n")
	for i, line := range lines[:len(lines)-1] {
		w.print(line)
		awaitAck(gold.t, acks.r, uint64(i+1))
	}
	w.print(lines[len(lines)-1])
	w.close()
	gold.check("line by line", g)
}

// awaitAck reads acknowledgements up to that of a line, and returns it.
func awaitAck(t testing.TB, r io.Reader, number uint64) (seq, rejected uint64) {
	t.Helper()
	for line := uint64(0); line < number; {
		_, err := fmt.Fscanf(r, "%d %d %d\n", &line, &seq, &rejected)
		testenv.Must(t, err)
	}
	return seq, rejected
}
