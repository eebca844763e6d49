package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

// verifyMain checks a state directory, or repairs it.
func verifyMain(a *app, args []string) error {
	f := a.newFlags("verify", verifyUsage)
	dir := a.stateDir(f)
	format := f.String("format", "text", "")
	repair := f.Bool("repair", false, "")
	if err := f.parseAll(args); err != nil {
		return err
	}
	if err := f.checkFormat(*format); err != nil {
		return err
	}
	r, err := checkDir(*dir, *repair)
	if err != nil {
		return err
	}
	if *format == "json" {
		err = a.printJSONReport(*dir, r)
	} else {
		err = a.printReport(*dir, r)
	}
	if err == nil && !r.Valid() {
		err = errInvalid
	}
	return err
}

// checkDir checks a state directory and, if asked to, repairs it. It returns an
// *unreadableError if that is not possible because the directory cannot be read.
func checkDir(dir string, repair bool) (*verify.RepairReport, error) {
	if !repair {
		report, err := verify.Dir(dir)
		if err != nil {
			return nil, &unreadableError{err}
		}
		return &verify.RepairReport{Report: *report}, nil
	}
	r, err := verify.Repair(dir)
	var repairErr *verify.RepairError
	if err != nil && !errors.As(err, &repairErr) {
		err = &unreadableError{err}
	}
	return r, err
}

// printReport prints a report as text.
func (a *app) printReport(dir string, r *verify.RepairReport) error {
	to := bufio.NewWriter(a.stdout)
	for i := range r.Repaired {
		fmt.Fprintf(to, "%s (repaired)\n", findingText(&r.Repaired[i]))
	}
	for _, name := range r.KeptFiles {
		fmt.Fprintf(to, "%s: has what the repair removed\n", name)
	}
	repairable := 0
	for i := range r.Findings {
		f := &r.Findings[i]
		text := findingText(f)
		if f.Repairable {
			repairable++
			text += " (repairable)"
		}
		fmt.Fprintln(to, text)
	}
	fmt.Fprintf(to, "%s: %s\n", timeline.Printable(dir), summary(&r.Report, repairable))
	return to.Flush()
}

// findingText returns a finding on one line.
func findingText(f *verify.Finding) string {
	place := f.File
	if place == "" {
		place = "."
	}
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d", place, f.Line)
	}
	return timeline.Printable(place + ": " + f.What)
}

// summary returns the last line of a report. repairable is how many of the listed
// findings are.
func summary(r *verify.Report, repairable int) string {
	parts := []string{"valid"}
	if !r.Valid() {
		total := uint64(len(r.Findings)) + r.Omitted
		parts[0] = "invalid: " + several(total, "finding")
	}
	if repairable > 0 {
		parts[0] += fmt.Sprintf(", %d repairable with --repair", repairable)
	}
	if r.Omitted > 0 {
		parts[0] += fmt.Sprintf(", %d not listed", r.Omitted)
	}
	if r.Events > 0 {
		parts = append(parts, fmt.Sprintf("%s in %s, seq %d to %d", several(r.Events, "event"),
			several(uint64(r.Boots), "boot"), r.FirstSeq, r.LastSeq))
	}
	if r.State != "" {
		parts = append(parts, "status "+string(r.State))
	}
	if r.Outcome != "" {
		parts = append(parts, "result "+string(r.Outcome))
	}
	return strings.Join(parts, "; ")
}

// several returns a number with its noun.
func several(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printJSONReport prints a report as one JSON object on one line.
func (a *app) printJSONReport(dir string, r *verify.RepairReport) error {
	var o strictjson.Object
	o.Text("dir", dir)
	o.Bool("valid", r.Valid())
	o.Uint("events", r.Events)
	o.Int("boots", int64(r.Boots))
	o.Uint("first_seq", r.FirstSeq)
	o.Uint("last_seq", r.LastSeq)
	if r.State != "" {
		o.Text("state", string(r.State))
	}
	if r.Outcome != "" {
		o.Text("outcome", string(r.Outcome))
	}
	o.Values("findings", findingObjects(r.Findings))
	o.Uint("omitted", r.Omitted)
	o.Values("repaired", findingObjects(r.Repaired))
	o.Texts("kept_files", r.KeptFiles)
	_, err := a.stdout.Write(append(o.Value(), '\n'))
	return err
}

func findingObjects(findings []verify.Finding) []strictjson.Value {
	var objects []strictjson.Value
	for _, f := range findings {
		var o strictjson.Object
		o.Text("file", f.File)
		if f.Line > 0 {
			o.Uint("line", f.Line)
		}
		o.Text("what", f.What)
		o.Bool("repairable", f.Repairable)
		objects = append(objects, o.Value())
	}
	return objects
}
