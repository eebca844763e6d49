package main

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// resultMain runs the subcommand result, which replaces result.json.
func resultMain(a *app, args []string) error {
	f := a.newOneshotFlags("result", resultUsage, "result-path")
	word := f.String("status", "", "")
	code := f.String("exit-code", "", "")
	f.StringVar(&f.journal, "journal", "never", "")
	if err := f.parse(args, writer.ResultName, "status"); err != nil {
		return err
	}
	outcome, err := parseWord(f.flagSet, "status", *word, artifact.Outcomes())
	if err != nil {
		return err
	}
	details, err := f.detailsValue()
	if err != nil {
		return err
	}
	exitCode, err := f.exitCode(*code, outcome)
	if err != nil {
		return err
	}
	if exitCode != nil && *exitCode != 0 && outcome == artifact.OutcomeCompleted {
		a.warn("result: --status completed contradicts --exit-code " + *code + "; the result is written anyway")
	}
	mirror, err := a.newMirror(f.journal, filepath.Join(filepath.Dir(f.path), writer.EventsName))
	if err != nil {
		return err
	}
	defer a.closeMirror(mirror)
	r := &artifact.Result{
		Outcome:  outcome,
		ExitCode: exitCode,
		Time:     a.clock().Time,
		Message:  f.messageValue(),
		Details:  details,
		BootID:   a.bootID(),
	}
	file := writer.ResultFile{Path: f.path}
	err = file.Replace(r)
	if err != nil || mirror == nil {
		return f.writeError(err)
	}
	mirror.Committed(&ingest.Commit{Result: r})
	return nil
}

// exitCode parses the value of --exit-code. Without the flag, completed means 0, and
// failed has no exit code, because its true one is not known.
func (f *oneshotFlags) exitCode(text string, outcome artifact.Outcome) (*int32, error) {
	if !f.isGiven("exit-code") {
		if outcome == artifact.OutcomeFailed {
			return nil, nil
		}
		return new(int32), nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32) // the Python command ignored white space
	if err != nil {
		return nil, f.badUsage("--exit-code is %q; expected an integer from %d to %d", text, math.MinInt32, math.MaxInt32)
	}
	code := int32(n)
	return &code, nil
}
