//go:build linux && amd64

package faulttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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
	word    string // its state, kind or outcome; of a reject the error
	message string // of a reject the error
	seq     uint64
	hasSeq  bool
}

// A schema is what decode demands of an object: the names of the word and the
// message, and of all members that must be there.
type schema struct {
	word, message string
	required      []string
}

var (
	statusSchema = schema{"state", "message", []string{"updated_at"}}
	resultSchema = schema{"status", "message", []string{"finished_at"}}
	eventSchema  = schema{"kind", "message", []string{"timestamp", "seq"}}
	rejectSchema = schema{"error", "error", []string{"timestamp", "line", "offset"}}
)

// words are the values that a word may have, by its name; a reject's may have any.
var words = map[string][]string{"state": states, "kind": states, "status": {"completed", "failed"}}

var states = []string{"requested", "provisioning", "booted", "unreachable", "stopped",
	"destroyed", "starting", "ready", "failed", "completed"}

// decode reads one object as the host does: valid UTF-8, no name twice, nothing
// after it, every required member there and of its type.
func (sc *schema) decode(text string) (*artifact, error) {
	fields, err := members(text)
	if err != nil {
		return nil, err
	}
	for _, name := range append([]string{"schema_version", sc.word, sc.message}, sc.required...) {
		if fields[name] == nil {
			return nil, fmt.Errorf("no %s in %.80q", name, text)
		}
	}
	if string(fields["schema_version"]) != "1" {
		return nil, errors.New("not schema version 1")
	}
	a := new(artifact)
	if err := errors.Join(json.Unmarshal(fields[sc.word], &a.word), json.Unmarshal(fields[sc.message], &a.message)); err != nil {
		return nil, err
	}
	if known := words[sc.word]; known != nil && !slices.Contains(known, a.word) {
		return nil, fmt.Errorf("unknown %s %q", sc.word, a.word)
	}
	for _, name := range []string{"timestamp", "updated_at", "finished_at"} {
		if value := fields[name]; value != nil {
			if _, err := time.Parse(`"2006-01-02T15:04:05.000Z"`, string(value)); err != nil {
				return nil, err
			}
		}
	}
	if value := fields["seq"]; value != nil {
		a.hasSeq = true
		a.seq, err = strconv.ParseUint(string(value), 10, 64)
	}
	return a, err
}

// members reads an object, in which no name may come twice.
func members(text string) (map[string]json.RawMessage, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("invalid UTF-8")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("not an object: %.80q", text)
	}
	fields := map[string]json.RawMessage{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string)
		if fields[name] != nil {
			return nil, fmt.Errorf("%s comes twice", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		fields[name] = bytes.Clone(value)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return fields, nil
}

// The names of the logs. A fault may leave their last line without its end, and
// readers are promised to see nothing worse.
const (
	eventsLog  = "events.jsonl"
	rejectsLog = "rejected.jsonl"
)

// An allowance is what a picture may show although no writer leaves it.
type allowance struct {
	torn []string // logs whose last line may lack its end
	nuls bool     // the seq file may end in NULs, as after a power loss
}

// A picture is what a state directory contains, as strict readers see it.
type picture struct {
	names    []string
	modes    map[string]os.FileMode // nil if the picture was not taken from a directory
	old      []*artifact            // events.jsonl.1
	events   []*artifact            // events.jsonl, whole lines
	rejects  []*artifact
	torn     map[string]string // the last line of a log, if it has no newline, by log
	aside    map[string]string // the file of torn lines, by log
	status   *artifact         // nil if there is none
	result   *artifact
	prev     *artifact
	seq      uint64 // as a writer reads it that relies on the seq file alone
	seqText  string
	unloaded []string // the files that are not valid, and why
}

// look takes a picture of the state directory at dir, which may not exist.
func look(dir string, allowed allowance) *picture {
	files, modes := map[string]string{}, map[string]os.FileMode{}
	var unread []string
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		unread = append(unread, err.Error())
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			unread = append(unread, err.Error())
			continue
		}
		files[e.Name()] = string(text)
		if info, err := os.Lstat(path); err == nil {
			modes[e.Name()] = info.Mode()
		}
	}
	p := lookAt(files, allowed)
	p.modes, p.unloaded = modes, append(p.unloaded, unread...)
	return p
}

// lookAt takes a picture of files, by name.
func lookAt(files map[string]string, allowed allowance) *picture {
	p := &picture{names: slices.Sorted(maps.Keys(files)), torn: map[string]string{}, aside: map[string]string{}}
	for _, name := range p.names {
		if err := p.take(name, files[name], allowed); err != nil {
			p.unloaded = append(p.unloaded, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return p
}

func namesIn(dir string) (names []string) {
	entries, _ := os.ReadDir(dir) // the program may not have made it yet
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (p *picture) take(name, text string, allowed allowance) (err error) {
	switch name {
	case "status.json":
		p.status, err = statusSchema.decode(text)
	case "result.json":
		p.result, err = resultSchema.decode(text)
	case "result.json.prev":
		p.prev, err = resultSchema.decode(text)
	case eventsLog:
		p.events, p.torn[name], err = eventSchema.decodeLog(text)
	case eventsLog + ".1":
		p.old, p.torn[name], err = eventSchema.decodeLog(text)
	case rejectsLog:
		p.rejects, p.torn[name], err = rejectSchema.decodeLog(text)
	case eventsLog + ".torn", rejectsLog + ".torn":
		p.aside[strings.TrimSuffix(name, ".torn")] = text
	case eventsLog + ".seq":
		p.seqText = text
		if allowed.nuls {
			text = strings.TrimRight(text, "\x00")
		}
		p.seq, err = readSeq(text)
	}
	if torn := p.torn[name]; torn != "" && !slices.Contains(allowed.torn, name) {
		err = errors.Join(err, fmt.Errorf("torn last line %.60q", torn))
	}
	return err
}

// decodeLog reads a log. Like the host, it rejects all of it because of one bad
// line, unless that is the last one and lacks its newline.
func (sc *schema) decodeLog(text string) (lines []*artifact, torn string, err error) {
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			return lines, line, nil
		}
		a, err := sc.decode(line)
		if err != nil {
			return nil, "", fmt.Errorf("line %d: %w", len(lines)+1, err)
		}
		lines = append(lines, a)
	}
	return lines, "", nil
}

// readSeq reads a seq file as the Python command does: an empty one is 0, and
// one that is not a number is an error.
func readSeq(text string) (uint64, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// all returns the events of the log and the one before it.
func (p *picture) all() []*artifact { return slices.Concat(p.old, p.events) }

// lastSeq returns the last seq in use.
func (p *picture) lastSeq() uint64 {
	all := p.all()
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].seq
}

// eventOf returns the event of a status or result: each scenario has every
// message only once.
func (p *picture) eventOf(a *artifact) *artifact {
	all := p.all()
	i := slices.IndexFunc(all, func(e *artifact) bool { return e.message == a.message })
	if i < 0 {
		return nil
	}
	return all[i]
}
