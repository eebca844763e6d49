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

// An artifact is a status, result, event or rejected line as a strict reader decodes it.
// The reader shares no code with the writer.
type artifact struct {
	word    string // the state, kind or outcome; for a rejected line, the error
	message string // for a rejected line, the error
	seq     uint64
	hasSeq  bool
}

// A schema has the names of the members that decode requires: of the word, of the
// message, and of all others.
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

// words lists the valid values of a word, by its name. That of a rejected line may have
// any value.
var words = map[string][]string{"state": states, "kind": states, "status": {"completed", "failed"}}

var states = []string{"requested", "provisioning", "booted", "unreachable", "stopped",
	"destroyed", "starting", "ready", "failed", "completed"}

// decode reads one object as the host does. The object must be valid UTF-8, have no name
// twice, have nothing after it, and have all required members with the right types.
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

// members reads an object. It returns an error if a name occurs twice.
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
			return nil, fmt.Errorf("%s occurs twice", name)
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
		return nil, errors.New("text after the object")
	}
	return fields, nil
}

// The names of the logs. After a fault, their last line may be torn.
const (
	eventsLog  = "events.jsonl"
	rejectsLog = "rejected.jsonl"
)

// An allowance lists the defects that a picture may have immediately after a fault.
type allowance struct {
	torn []string // the logs whose last line may be torn
	nuls bool     // the seq file may end with NULs, as after a power loss
}

// A picture is the content of a state directory, as strict readers decode it.
type picture struct {
	names        []string
	modes        map[string]os.FileMode // nil if the picture is not of a directory
	old          []*artifact            // events.jsonl.1
	events       []*artifact            // events.jsonl, without a torn line
	rejects      []*artifact
	torn         map[string]string // the torn line of each log
	moved        map[string]string // the .torn file of each log
	status       *artifact         // nil if there is none
	result       *artifact
	prev         *artifact
	seq          uint64 // from the seq file, as the Python command reads it
	seqText      string
	invalidFiles []string // the files that are not valid, and the reasons
}

// readPicture returns a picture of the state directory at dir, which may be missing.
func readPicture(dir string, allowed allowance) *picture {
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
	p := pictureOf(files, allowed)
	p.modes, p.invalidFiles = modes, append(p.invalidFiles, unread...)
	return p
}

// pictureOf returns a picture of files, given by their names and contents.
func pictureOf(files map[string]string, allowed allowance) *picture {
	p := &picture{names: slices.Sorted(maps.Keys(files)), torn: map[string]string{}, moved: map[string]string{}}
	for _, name := range p.names {
		if err := p.add(name, files[name], allowed); err != nil {
			p.invalidFiles = append(p.invalidFiles, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return p
}

func namesIn(dir string) (names []string) {
	entries, _ := os.ReadDir(dir) // the program may not have created it yet
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// add decodes a file and adds its artifacts to the picture.
func (p *picture) add(name, text string, allowed allowance) (err error) {
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
		p.moved[strings.TrimSuffix(name, ".torn")] = text
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

// decodeLog reads a log. Like the host, it rejects the whole log if one line is invalid,
// unless that is the last line and has no newline.
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

// readSeq parses the content of a seq file as the Python command does. An empty file is
// 0. It returns an error if the file is not a number.
func readSeq(text string) (uint64, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// all returns the events of the old log and the current one.
func (p *picture) all() []*artifact { return slices.Concat(p.old, p.events) }

// lastSeq returns the seq of the last event.
func (p *picture) lastSeq() uint64 {
	all := p.all()
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].seq
}

// eventOf returns the event of a status or result. It finds the event by its message,
// because each scenario uses a message only once.
func (p *picture) eventOf(a *artifact) *artifact {
	all := p.all()
	i := slices.IndexFunc(all, func(e *artifact) bool { return e.message == a.message })
	if i < 0 {
		return nil
	}
	return all[i]
}
