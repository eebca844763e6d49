//go:build linux && amd64

package crashtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An artifact is what a strict reader takes from one status, result, event or
// reject. It shares no code with the writer.
type artifact struct {
	State, Kind, Status string // the word of whichever it is
	Message             string
	Error               string // of a reject
	Seq                 uint64
	HasSeq              bool
}

// decodeStrict reads one object as the host does: UTF-8 throughout, no name
// twice, nothing behind it, and every required field of the right type.
func decodeStrict(text []byte, required ...string) (*artifact, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("invalid UTF-8")
	}
	fields, err := members(text)
	if err != nil {
		return nil, err
	}
	for _, name := range append(required, "schema_version") {
		if fields[name] == nil {
			return nil, fmt.Errorf("no %s", name)
		}
	}
	if string(fields["schema_version"]) != "1" {
		return nil, errors.New("not schema version 1")
	}
	a := new(artifact)
	texts := map[string]*string{"state": &a.State, "kind": &a.Kind, "status": &a.Status,
		"message": &a.Message, "error": &a.Error}
	for name, to := range texts {
		if raw := fields[name]; raw != nil {
			if err := json.Unmarshal(raw, to); err != nil {
				return nil, err
			}
		}
	}
	if raw := fields["seq"]; raw != nil {
		a.HasSeq = true
		if a.Seq, err = strconv.ParseUint(string(raw), 10, 64); err != nil {
			return nil, err
		}
	}
	return a, a.check(fields)
}

// check holds the words and times against what the host knows.
func (a *artifact) check(fields map[string]json.RawMessage) error {
	states := []string{"requested", "provisioning", "booted", "unreachable", "stopped",
		"destroyed", "starting", "ready", "failed", "completed"}
	for _, word := range []string{a.State, a.Kind} {
		if word != "" && !slices.Contains(states, word) {
			return fmt.Errorf("unknown state %q", word)
		}
	}
	if a.Status != "" && a.Status != "completed" && a.Status != "failed" {
		return fmt.Errorf("unknown outcome %q", a.Status)
	}
	for _, name := range []string{"timestamp", "updated_at", "finished_at"} {
		if raw := fields[name]; raw != nil {
			if _, err := time.Parse(`"2006-01-02T15:04:05.000Z"`, string(raw)); err != nil {
				return err
			}
		}
	}
	return nil
}

// members reads an object and refuses a name that comes twice.
func members(text []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("not an object: %.40q", text)
	}
	fields := map[string]json.RawMessage{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		if fields[name.(string)] != nil {
			return nil, fmt.Errorf("%s comes twice", name)
		}
		fields[name.(string)] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return fields, nil
}

// A picture is all that a state directory holds, as strict readers see it.
type picture struct {
	names    []string
	old      []*artifact // events.jsonl.1
	events   []*artifact // events.jsonl, whole lines
	torn     string      // its last line, if that has no newline
	rejects  []*artifact
	status   *artifact // nil if there is none
	result   *artifact
	prev     *artifact
	seq      uint64 // as a writer reads it that trusts the seq file alone
	seqText  string
	aside    string   // events.jsonl.torn
	unloaded []string // what does not load, and why
}

// The logs, of which a crash may leave the last line without its end. That is
// the most that a reader is promised to see.
const (
	eventsLog  = "events.jsonl"
	rejectsLog = "rejected.jsonl"
)

// look reads the state directory at dir. The logs named may have a torn last
// line.
func look(dir string, torn ...string) *picture {
	p := new(picture)
	for _, name := range namesIn(dir) {
		p.names = append(p.names, name)
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = p.take(name, text, slices.Contains(torn, name))
		}
		if err != nil {
			p.unloaded = append(p.unloaded, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return p
}

func namesIn(dir string) (names []string) {
	entries, _ := os.ReadDir(dir) // the directory may not have been made yet
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (p *picture) take(name string, text []byte, torn bool) (err error) {
	switch name {
	case "status.json":
		p.status, err = decodeStrict(text, "state", "message", "updated_at")
	case "result.json":
		p.result, err = decodeStrict(text, "status", "message", "finished_at")
	case "result.json.prev":
		p.prev, err = decodeStrict(text, "status", "message", "finished_at")
	case "events.jsonl":
		p.events, p.torn, err = decodeLog(text, torn, "kind", "message", "timestamp", "seq")
	case "events.jsonl.1":
		p.old, _, err = decodeLog(text, false, "kind", "message", "timestamp", "seq")
	case "events.jsonl.torn":
		p.aside = string(text)
	case "rejected.jsonl":
		p.rejects, _, err = decodeLog(text, torn, "line", "offset", "timestamp", "error")
	case "events.jsonl.seq":
		p.seqText = string(text)
		p.seq, err = trust(p.seqText)
	}
	return err
}

// decodeLog reads a log, all of which is refused for one bad line.
func decodeLog(text []byte, mayBeTorn bool, required ...string) (lines []*artifact, torn string, err error) {
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			if !mayBeTorn {
				return nil, "", fmt.Errorf("torn last line %.60q", line)
			}
			return lines, string(line), nil
		}
		a, err := decodeStrict(line, required...)
		if err != nil {
			return nil, "", fmt.Errorf("line %d: %w", len(lines)+1, err)
		}
		lines = append(lines, a)
	}
	return lines, "", nil
}

// trust reads a seq file as the Python command does: what is empty is 0, and
// what is no number is an error.
func trust(text string) (uint64, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 64)
}
