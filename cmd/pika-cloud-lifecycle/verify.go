package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

// errUnsound says that a state directory is not sound; the findings were shown.
var errUnsound = errors.New("not sound")

// An unreadError is for what was to be verified and could not be read.
type unreadError struct{ error }

func (e *unreadError) Unwrap() error { return e.error }

// verify holds a state directory against what it should be, and repairs it if it is
// asked to.
func (w *world) verify(args []string) error {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	dir := w.stateDir(flags)
	format := flags.String("format", "text", "")
	repair := flags.Bool("repair", false, "")
	err := w.parse(flags, verifyUsage, args)
	if err == nil {
		err = checkFormat(flags, *format)
	}
	if err != nil {
		return err
	}
	r := new(verify.Repaired)
	if *repair {
		r, err = verify.Repair(*dir)
	} else {
		var report *verify.Report
		if report, err = verify.Dir(*dir); err == nil {
			r.Report = *report
		}
	}
	var unmended *verify.MendError
	if errors.As(err, &unmended) {
		return err
	}
	if err != nil {
		return &unreadError{err}
	}
	if err := w.report(*dir, *format, r); err != nil || r.Sound() {
		return err
	}
	return errUnsound
}

// report shows what was found, and mended.
func (w *world) report(dir, format string, r *verify.Repaired) error {
	to := bufio.NewWriter(w.stdout)
	if format == "json" {
		return w.reportJSON(dir, r)
	}
	for _, f := range r.Mended {
		fmt.Fprintf(to, "%s: mended\n", describe(&f))
	}
	for _, name := range r.Kept {
		fmt.Fprintf(to, "%s: keeps what was taken out\n", name)
	}
	mendable := 0
	for _, f := range r.Findings {
		text := describe(&f)
		if f.Mendable {
			mendable++
			text += "; --repair mends it"
		}
		fmt.Fprintln(to, text)
	}
	fmt.Fprintf(to, "%s: %s\n", timeline.Printable(dir), conclusion(&r.Report, mendable))
	return to.Flush()
}

// describe tells a finding on one line.
func describe(f *verify.Finding) string {
	place := f.File
	if place == "" {
		place = "."
	}
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d", place, f.Line)
	}
	return timeline.Printable(place + ": " + f.What)
}

// conclusion sums a report up.
func conclusion(r *verify.Report, mendable int) string {
	verdict := "sound"
	if n := uint64(len(r.Findings)) + r.Omitted; n > 0 {
		verdict = fmt.Sprintf("not sound: %s, %d of them mendable", several(n, "finding"), mendable)
	}
	if r.Omitted > 0 {
		verdict += fmt.Sprintf(", %d not listed", r.Omitted)
	}
	if r.Events > 0 {
		verdict += fmt.Sprintf("; %s in %s, seq %d to %d", several(r.Events, "event"), several(uint64(r.Boots), "boot"), r.FirstSeq, r.LastSeq)
	}
	if r.State != "" {
		verdict += "; status " + r.State
	}
	if r.Outcome != "" {
		verdict += "; result " + r.Outcome
	}
	return verdict
}

// several counts things in words.
func several(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// reportJSON writes the report as one object.
func (w *world) reportJSON(dir string, r *verify.Repaired) error {
	text := strictjson.AppendText([]byte(`{"dir":`), dir)
	text = fmt.Appendf(text, `,"sound":%t,"events":%d,"boots":%d,"first_seq":%d,"last_seq":%d`,
		r.Sound(), r.Events, r.Boots, r.FirstSeq, r.LastSeq)
	text = appendMember(text, "state", r.State)
	text = appendMember(text, "outcome", r.Outcome)
	text = appendFindings(append(text, `,"findings":`...), r.Findings)
	text = fmt.Appendf(text, `,"omitted":%d`, r.Omitted)
	text = appendFindings(append(text, `,"mended":`...), r.Mended)
	text = append(text, `,"kept":[`...)
	for i, name := range r.Kept {
		if i > 0 {
			text = append(text, ',')
		}
		text = strictjson.AppendText(text, name)
	}
	_, err := w.stdout.Write(append(text, "]}\n"...))
	return err
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return strictjson.AppendText(fmt.Appendf(dst, ",%q:", name), value)
}

// appendFindings appends an array, an object a line.
func appendFindings(dst []byte, findings []verify.Finding) []byte {
	dst = append(dst, '[')
	for i, f := range findings {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strictjson.AppendText(append(dst, "\n{\"file\":"...), f.File)
		if f.Line > 0 {
			dst = fmt.Appendf(dst, `,"line":%d`, f.Line)
		}
		dst = strictjson.AppendText(append(dst, `,"what":`...), f.What)
		dst = fmt.Appendf(dst, `,"mendable":%t}`, f.Mendable)
	}
	return append(dst, ']')
}
