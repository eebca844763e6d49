package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// goldenInputs are the seeds of the fuzz tests.
func goldenInputs(f *testing.F) (inputs [][]byte) {
	paths, err := filepath.Glob(goldenStreams + "/input")
	testenv.Must(f, err)
	if len(paths) == 0 {
		f.Fatalf("no %s/input", goldenStreams)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		testenv.Must(f, err)
		inputs = append(inputs, text)
	}
	return inputs
}

// fuzzMaxLine is low, so that lines that are too long are found.
const fuzzMaxLine = 300

// FuzzStream feeds any bytes: the artifacts do not depend on how they are
// chunked, pass the model of a strict reader, and account for every line.
func FuzzStream(f *testing.F) {
	for i, input := range goldenInputs(f) {
		f.Add(input, uint64(i))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		if len(input) > 1<<15 {
			return // what is special about long ones has tests of its own
		}
		whole, parted := fuzzGuest(t), fuzzGuest(t)
		sum := whole.feedChunks(string(input))
		if got := parted.feedChunks(partAtRandom(string(input), seed)...); got != sum {
			t.Errorf("%+v whole, %+v in chunks", sum, got)
		}
		checkSame(t, "in chunks", parted.artifacts(), whole.artifacts())
		events, rejects := whole.checkModel()
		account(t, input, sum, events, rejects)
	})
}

func fuzzGuest(t *testing.T) *guest {
	g := newGuest(t)
	g.MaxLine = fuzzMaxLine
	return g
}

func partAtRandom(input string, seed uint64) (chunks []string) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	for input != "" {
		n := min(len(input), 1+rnd.IntN(1+rnd.IntN(64)))
		chunks = append(chunks, input[:n])
		input = input[n:]
	}
	return chunks
}

// account checks that every line is skipped, or refused and kept, or taken and,
// if it tells of an event, in the log. It cuts the lines in its own way.
func account(t *testing.T, input []byte, sum Summary, events, rejects []map[string]string) {
	t.Helper()
	var dec decoder
	offset, number := 0, 0
	for rest := input; len(rest) > 0; {
		raw, after, ended := bytes.Cut(rest, []byte("\n"))
		text := raw
		if ended {
			text = bytes.TrimSuffix(raw, []byte("\r"))
		}
		if number++; len(rejects) > 0 && rejects[0]["line"] == strconv.Itoa(number) {
			checkReject(t, rejects[0], offset, text)
			rejects = rejects[1:]
		} else if events = taken(t, &dec, text, number, ended, events); t.Failed() {
			return
		}
		offset += len(rest) - len(after)
		rest = after
	}
	if uint64(number) != sum.Lines || len(rejects) > 0 || len(events) > 0 {
		t.Errorf("%d lines in %q, %+v; %d events and %d refused lines besides", number, input, sum, len(events), len(rejects))
	}
}

// taken checks a line that was not refused, and returns the events behind its.
func taken(t *testing.T, dec *decoder, text []byte, number int, ended bool, events []map[string]string) []map[string]string {
	if len(text) > fuzzMaxLine {
		t.Errorf("line %d has %d bytes and is taken", number, len(text))
		return events
	}
	if number == 1 {
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	if start := bytes.TrimLeft(text, " \t\r"); len(start) == 0 || start[0] == '#' {
		return events
	}
	d, refused := dec.decode(text, !ended)
	if refused != nil {
		t.Errorf("line %d, %q, is taken: %v", number, text, refused)
		return events
	}
	if d.verb == setStatus || d.verb == setResult {
		return events
	}
	if len(events) == 0 || events[0]["kind"] != strconv.Quote(string(d.state)) || events[0]["message"] != string(d.message) ||
		events[0]["details"] != string(d.details) {
		t.Errorf("line %d, %q, has no event", number, text)
		return events
	}
	return events[1:]
}

// checkReject checks what is kept of a refused line.
func checkReject(t *testing.T, reject map[string]string, offset int, text []byte) {
	t.Helper()
	check(t, "the offset of a reject", reject["offset"], strconv.Itoa(offset))
	var kept string
	testenv.Must(t, json.Unmarshal([]byte(reject["raw"]+reject["raw_base64"]), &kept))
	if reject["raw_base64"] != "" {
		raw, err := base64.StdEncoding.DecodeString(kept)
		testenv.Must(t, err)
		kept = string(raw)
	}
	want, length, truncated := string(text), "", ""
	if len(text) > fuzzMaxLine {
		want, length, truncated = string(text[:fuzzMaxLine]), strconv.Itoa(len(text)), "true"
	}
	check(t, "the bytes of a reject", kept, want)
	check(t, "the length of a reject", reject["length"], length)
	check(t, "whether a reject is cut", reject["truncated"], truncated)
}

// FuzzDecode decodes any line, in both syntaxes.
func FuzzDecode(f *testing.F) {
	for _, input := range goldenInputs(f) {
		for line := range bytes.Lines(input) {
			f.Add(bytes.TrimRight(line, "\r\n"))
		}
	}
	var warm decoder
	f.Fuzz(func(t *testing.T, text []byte) {
		if isSkipped(text) || bytes.ContainsRune(text, '\n') {
			return
		}
		before := bytes.Clone(text)
		var dec decoder
		d, refused := dec.decode(text, false)
		check(t, "to a decoder in use", warm.describe(string(text), false), decodeLine(string(text)))
		if !bytes.Equal(text, before) {
			t.Error("the line was written to")
		}
		if refused != nil {
			checkRefusal(t, text, refused)
			return
		}
		checkDirective(t, d)
		check(t, "the same in JSON", decodeLine(asJSON(d)), decodeLine(string(text)))
	})
}

// checkRefusal checks that a refusal points into the line, and that a terminal
// may be shown it.
func checkRefusal(t *testing.T, text []byte, r *refusal) {
	if r.at < 0 || r.at > len(text) || r.why == "" {
		t.Errorf("%q: offset %d of %d, %q", text, r.at, len(text), r.why)
	}
	if i := strings.IndexFunc(r.Error(), func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 {
		t.Errorf("%q: %q at %d is not for a terminal", text, r.Error(), i)
	}
}

// checkDirective checks that all a directive holds is what the artifacts may.
func checkDirective(t *testing.T, d *directive) {
	if err := strict(d.message); err != nil || d.message[0] != '"' {
		t.Errorf("message %s: %v", d.message, err)
	}
	if len(d.details) > 0 {
		if err := strict(d.details); err != nil || string(d.details) == "null" {
			t.Errorf("details %s: %v", d.details, err)
		}
	}
	if year := d.time.UTC().Year(); year < 0 || year > 9999 {
		t.Errorf("in the year %d", year)
	}
	need := d.verb != setResult
	if _, ok := writer.ParseState(d.state); ok != need {
		t.Errorf("%s of state %q", d.verb, d.state)
	}
	_, verdict := writer.ParseOutcome(d.outcome)
	if wants := d.verb == setResult || d.verb == transition && slices.Contains([]writer.State{"completed", "failed"}, d.state); verdict != wants {
		t.Errorf("%s %s of outcome %q", d.verb, d.state, d.outcome)
	}
	if d.hasExit && !verdict || d.outcome == writer.OutcomeCompleted && (!d.hasExit || d.exitCode != 0) {
		t.Errorf("%s %s %s with exit code %v %d", d.verb, d.state, d.outcome, d.hasExit, d.exitCode)
	}
}

// asJSON writes a directive as a line of JSON.
func asJSON(d *directive) string {
	s := fmt.Sprintf(`{"type":%q,"message":%s`, d.verb, d.message)
	switch d.verb {
	case addEvent:
		s += fmt.Sprintf(`,"kind":%q`, d.state)
	case setResult:
		s += fmt.Sprintf(`,"status":%q`, d.outcome)
	default:
		s += fmt.Sprintf(`,"state":%q`, d.state)
	}
	if d.hasExit {
		s += fmt.Sprintf(`,"exit_code":%d`, d.exitCode)
	}
	if len(d.details) > 0 {
		s += `,"details":` + string(d.details)
	}
	if !d.time.IsZero() {
		text, _ := d.time.UTC().MarshalText()
		s += fmt.Sprintf(`,"timestamp":%q`, text)
	}
	return s + "}"
}
