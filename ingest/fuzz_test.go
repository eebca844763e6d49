package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
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

// fuzzMaxLine is low, so that the fuzzer finds lines that are too long.
const fuzzMaxLine = 300

// FuzzStream feeds any bytes: the artifacts do not depend on how the input is
// chunked, are valid for a strict reader, and account for every line.
func FuzzStream(f *testing.F) {
	for i, input := range goldenInputs(f) {
		f.Add(input, uint64(i))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		if len(input) > 1<<15 {
			return // other tests have long inputs
		}
		whole, chunked := fuzzGuest(t), fuzzGuest(t)
		sum := whole.feedChunks(string(input))
		if got := chunked.feedChunks(partAtRandom(string(input), seed)...); got != sum {
			t.Errorf("%+v whole, %+v in chunks", sum, got)
		}
		checkSame(t, "in chunks", chunked.artifacts(), whole.artifacts())
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

// account checks that every line was skipped, rejected and kept, or accepted,
// and that each event is in the log. It splits the lines independently.
func account(t *testing.T, input []byte, sum Summary, events, rejects []map[string]string) {
	t.Helper()
	var dec directive.Decoder
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
		} else if events = checkAccepted(t, &dec, text, number, ended, events); t.Failed() {
			return
		}
		offset += len(rest) - len(after)
		rest = after
	}
	if uint64(number) != sum.Lines || len(rejects) > 0 || len(events) > 0 {
		t.Errorf("%d lines in %q, %+v; %d events and %d rejected lines left over", number, input, sum, len(events), len(rejects))
	}
}

// checkAccepted checks a line that was not rejected, and returns the events
// after its own.
func checkAccepted(t *testing.T, dec *directive.Decoder, text []byte, number int, ended bool, events []map[string]string) []map[string]string {
	if len(text) > fuzzMaxLine {
		t.Errorf("line %d has %d bytes and is accepted", number, len(text))
		return events
	}
	if number == 1 {
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	if start := bytes.TrimLeft(text, " \t\r"); len(start) == 0 || start[0] == '#' {
		return events
	}
	d, rejected := dec.Decode(text, !ended)
	if rejected != nil {
		t.Errorf("line %d, %q, is accepted: %v", number, text, rejected)
		return events
	}
	if d.Type == directive.Status || d.Type == directive.Result {
		return events
	}
	if len(events) == 0 || events[0]["kind"] != strconv.Quote(string(d.State)) || events[0]["message"] != string(d.Message) ||
		events[0]["details"] != string(d.Details) {
		t.Errorf("line %d, %q, has no event", number, text)
		return events
	}
	return events[1:]
}

// checkReject checks the record of a rejected line.
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
