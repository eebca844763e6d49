package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

// verifyMain checks a state directory, or repairs it.
func verifyMain(a *app, args []string) error {
	f := a.newFlags("verify", verifyUsage)
	stateDir := a.stateDir(f)
	format := f.String("format", "text", "")
	repair := f.Bool("repair", false, "")
	operands, err := f.pathOperands(args)
	if err != nil {
		return err
	}
	if len(operands) > 1 {
		return f.badUsage("expected one directory, not %d; run verify once for each", len(operands))
	}
	if err := f.checkFormat(*format); err != nil {
		return err
	}
	dir := *stateDir
	if len(operands) == 1 {
		dir = operands[0]
	}
	r, err := checkDir(dir, *repair)
	if err != nil {
		return err
	}
	if *format == "json" {
		err = a.printJSONReport(dir, r)
	} else {
		err = a.printReport(dir, r)
	}
	switch {
	case err != nil:
		return err
	case !r.Valid():
		return errInvalid
	case len(r.Unchecked) > 0:
		return &unreadableError{fmt.Errorf("%s: not everything was checked%s", dir, asRoot("to check the rest"))}
	}
	return nil
}

// asRoot returns the advice to use root; "" if the process runs as root.
func asRoot(to string) string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "; use root " + to
}

// checkDir checks a state directory and, if asked to, repairs it. It returns an
// *unreadableError if the directory cannot be read.
func checkDir(dir string, repair bool) (*verify.RepairReport, error) {
	if !repair {
		report, err := verify.Dir(dir)
		if err != nil {
			return nil, &unreadableError{checkError(dir, err)}
		}
		return &verify.RepairReport{Report: *report}, nil
	}
	r, err := verify.Repair(dir)
	var repairErr *verify.RepairError
	switch {
	case err == nil:
		return r, nil
	case errors.As(err, &repairErr):
		return nil, repairFailed(err)
	}
	return nil, &unreadableError{checkError(dir, err)}
}

// repairFailed returns the error of a repair, with what the user can do about it.
func repairFailed(err error) error {
	var pathErr *fs.PathError
	switch {
	case !errors.As(err, &pathErr):
		return err
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%w; remove it", withoutOp(pathErr))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w%s", withoutOp(pathErr), asRoot("to repair the directory"))
	case ingest.Remedy(err) != "":
		return fmt.Errorf("%w; %s", withoutOp(pathErr), ingest.Remedy(err))
	}
	return withoutOp(pathErr)
}

// checkError returns the error of a directory that cannot be checked, with what the
// user can do about it.
func checkError(dir string, err error) error {
	switch {
	case dir == "-" && errors.Is(err, fs.ErrNotExist):
		return errors.New("-: no such file or directory; verify checks a state directory, and reads no standard input")
	case errors.Is(err, verify.ErrNoFiles):
		return newNoFilesError(dir, 0)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is a file; verify checks a whole state directory%s", dir, itsDirectory(dir))
	}
	return openError(err)
}

// itsDirectory suggests the directory of a file that has the name of an artifact.
func itsDirectory(path string) string {
	name := filepath.Base(path)
	if !strings.HasPrefix(name, writer.EventsName) && name != writer.StatusName && name != writer.ResultName && name != writer.RejectedName {
		return ""
	}
	return ", such as " + filepath.Dir(path)
}

// printReport prints a report as text.
func (a *app) printReport(dir string, r *verify.RepairReport) error {
	to := bufio.NewWriter(a.stdout)
	for i := range r.Repaired {
		fmt.Fprintf(to, "%s (repaired)\n", findingText(&r.Repaired[i]))
	}
	for _, name := range r.KeptFiles {
		fmt.Fprintf(to, "%s: contains the lines that the repair removed\n", name)
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
	for _, u := range r.Unchecked {
		fmt.Fprintln(to, uncheckedText(u))
	}
	for _, w := range a.deadWriters(dir) {
		fmt.Fprintf(to, "%s: %s\n", writer.WriterLockName, deadText(w))
	}
	fmt.Fprintf(to, "%s: %s\n", timeline.Printable(dir), summary(&r.Report, repairable))
	return to.Flush()
}

// uncheckedText returns a file that was not checked on one line.
func uncheckedText(u verify.Unchecked) string {
	name := u.File
	if name == "" {
		name = "."
	}
	return fmt.Sprintf("%s: permission denied, so %s%s", name, u.Effect, asRoot("to check it"))
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
// findings are repairable.
func summary(r *verify.Report, repairable int) string {
	parts := []string{"valid"}
	if len(r.Unchecked) > 0 {
		parts[0] = "no problems found, but the check is incomplete"
	}
	if !r.Valid() {
		total := uint64(len(r.Findings)) + r.Omitted
		parts[0] = "invalid: " + timeline.Plural(total, "finding")
	}
	if repairable > 0 {
		parts[0] += fmt.Sprintf(", %d repairable with --repair", repairable)
	}
	if r.Omitted > 0 {
		parts[0] += fmt.Sprintf(", %d not listed", r.Omitted)
	}
	if r.Events > 0 {
		events := timeline.Plural(r.Events, "event")
		if r.Boots > 0 {
			events += " in " + timeline.Plural(r.Boots, "boot")
		}
		parts = append(parts, fmt.Sprintf("%s, seq %d to %d", events, r.FirstSeq, r.LastSeq))
	}
	if r.State != "" {
		parts = append(parts, "state "+string(r.State))
	}
	if r.Outcome != "" {
		parts = append(parts, "result "+string(r.Outcome))
	}
	if r.Rejected > 0 {
		parts = append(parts, timeline.Plural(r.Rejected, "rejected line")+" in rejected.jsonl")
	}
	return strings.Join(parts, "; ")
}

// printJSONReport prints a report as one JSON object on one line.
func (a *app) printJSONReport(dir string, r *verify.RepairReport) error {
	var o strictjson.Object
	o.Text("dir", dir)
	o.Bool("valid", r.Valid())
	o.Uint("events", r.Events)
	o.Int("boots", int64(r.Boots))
	o.Uint("rejected", r.Rejected)
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
	o.Values("unchecked", uncheckedObjects(r.Unchecked))
	o.Values("dead_writers", writerObjects(a.deadWriters(dir)))
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

func uncheckedObjects(unchecked []verify.Unchecked) []strictjson.Value {
	var objects []strictjson.Value
	for _, u := range unchecked {
		var o strictjson.Object
		o.Text("file", u.File)
		o.Text("effect", u.Effect)
		objects = append(objects, o.Value())
	}
	return objects
}
