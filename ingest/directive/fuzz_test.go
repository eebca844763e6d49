package directive

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// FuzzDecode decodes any line, in both syntaxes. A used decoder gives the same
// result as a new one, and a directive written as JSON decodes to itself.
func FuzzDecode(f *testing.F) {
	for _, input := range goldenInputs(f) {
		for line := range bytes.Lines(input) {
			f.Add(bytes.TrimRight(line, "\r\n"))
		}
	}
	var warm Decoder
	f.Fuzz(func(t *testing.T, text []byte) {
		if IsBlank(text) || bytes.ContainsRune(text, '\n') {
			return
		}
		before := bytes.Clone(text)
		var dec Decoder
		d, rejected := dec.Decode(text, false)
		check(t, "the meaning to a used decoder", warm.describe(string(text), false), decodeLine(string(text)))
		if !bytes.Equal(text, before) {
			t.Error("the decoder changed the line")
		}
		if rejected != nil {
			checkRejection(t, text, rejected)
			return
		}
		checkDirective(t, d)
		check(t, "the meaning of the same line in JSON", decodeLine(asJSON(d)), decodeLine(string(text)))
	})
}

// checkRejection checks that the offset is inside the line, and that the message is
// safe to print on a terminal and not long.
func checkRejection(t *testing.T, text []byte, r *Error) {
	if r.Offset < 0 || r.Offset > len(text) || r.Reason == "" {
		t.Errorf("%q: offset %d of %d, %q", text, r.Offset, len(text), r.Reason)
	}
	if len(r.Reason) > 600 {
		t.Errorf("%q: the message has %d bytes", text, len(r.Reason))
	}
	if i := strings.IndexFunc(r.Error(), func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 {
		t.Errorf("%q: %q at %d is not printable", text, r.Error(), i)
	}
}

// checkDirective checks that every field of a directive is valid in the artifacts.
func checkDirective(t *testing.T, d *Directive) {
	if err := strict(d.Message); err != nil || d.Message[0] != '"' {
		t.Errorf("message %s: %v", d.Message, err)
	}
	if len(d.Details) > 0 {
		if err := strict(d.Details); err != nil || string(d.Details) == "null" {
			t.Errorf("details %s: %v", d.Details, err)
		}
	}
	if year := d.Time.UTC().Year(); year < 0 || year > 9999 {
		t.Errorf("the year is %d", year)
	}
	need := d.Type != Result
	if _, ok := artifact.ParseState(d.State); ok != need {
		t.Errorf("%s of state %q", d.Type, d.State)
	}
	_, isOutcome := artifact.ParseOutcome(d.Outcome)
	if wants := d.Type == Result || d.Type == Transition && slices.Contains([]artifact.State{"completed", "failed"}, d.State); isOutcome != wants {
		t.Errorf("%s %s of outcome %q", d.Type, d.State, d.Outcome)
	}
	if d.HasExitCode && !isOutcome || d.Outcome == artifact.OutcomeCompleted && (!d.HasExitCode || d.ExitCode != 0) {
		t.Errorf("%s %s %s with exit code %v %d", d.Type, d.State, d.Outcome, d.HasExitCode, d.ExitCode)
	}
}

// asJSON writes a directive as a line of JSON.
func asJSON(d *Directive) string {
	s := fmt.Sprintf(`{"type":%q,"message":%s`, d.Type, d.Message)
	switch d.Type {
	case Event:
		s += fmt.Sprintf(`,"kind":%q`, d.State)
	case Result:
		s += fmt.Sprintf(`,"status":%q`, d.Outcome)
	default:
		s += fmt.Sprintf(`,"state":%q`, d.State)
	}
	if d.HasExitCode {
		s += fmt.Sprintf(`,"exit_code":%d`, d.ExitCode)
	}
	if len(d.Details) > 0 {
		s += `,"details":` + string(d.Details)
	}
	if !d.Time.IsZero() {
		text, _ := d.Time.UTC().MarshalText()
		s += fmt.Sprintf(`,"timestamp":%q`, text)
	}
	return s + "}"
}
