package main

import (
	"flag"
	"math"
	"path/filepath"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A oneshot is what the three one-shot commands have in common.
type oneshot struct {
	*world
	flags    *flag.FlagSet
	path     string
	pathFlag string
	dir      *string
	message  *string
	details  *string
	journal  string // of event and result
}

// newOneshot declares the common flags. The path flag is called pathFlag.
func (w *world) newOneshot(command, pathFlag string) *oneshot {
	o := &oneshot{world: w, flags: flag.NewFlagSet(command, flag.ContinueOnError), pathFlag: pathFlag, journal: "never"}
	o.dir = w.stateDir(o.flags)
	o.flags.StringVar(&o.path, pathFlag, "", "")
	o.message = o.flags.String("message", "", "")
	o.details = o.flags.String("details-json", "null", "")
	return o
}

// parse parses the flags, demands those named, and settles the path.
func (o *oneshot) parse(text string, args []string, artifact string, required ...string) error {
	if err := o.world.parse(o.flags, text, args); err != nil {
		return err
	}
	if err := require(o.flags, append(required, "message")...); err != nil {
		return err
	}
	if !given(o.flags, o.pathFlag) {
		o.path = filepath.Join(*o.dir, artifact)
	}
	switch {
	case o.path == "":
		return badUsage("%s: --%s is empty", o.flags.Name(), o.pathFlag)
	case *o.dir == "":
		return badUsage("%s: --state-dir is empty", o.flags.Name())
	}
	return checkMirror(o.flags.Name(), o.journal)
}

func (o *oneshot) messageValue() strictjson.Value {
	return strictjson.AppendText(nil, *o.message)
}

// detailsValue returns the details; null is the same as none.
func (o *oneshot) detailsValue() (strictjson.Value, error) {
	var n strictjson.Normaliser
	value, err := n.Normalise(nil, []byte(*o.details))
	if err != nil {
		return nil, badUsage("%s: --details-json: %v", o.flags.Name(), err)
	}
	if string(value) == "null" {
		return nil, nil
	}
	return value, nil
}

// status replaces status.json.
func (w *world) status(args []string) error {
	o := w.newOneshot("status", "status-path")
	word := o.flags.String("state", "", "")
	if err := o.parse(statusUsage, args, writer.StatusName, "state"); err != nil {
		return err
	}
	state, err := parseWord(o.flags, "state", *word, artifact.States())
	if err != nil {
		return err
	}
	details, err := o.detailsValue()
	if err != nil {
		return err
	}
	file := writer.StatusFile{Path: o.path}
	return file.Replace(&artifact.Status{State: state, Time: w.clock().Time,
		Message: o.messageValue(), BootID: w.bootID(), Details: details})
}

// event appends to events.jsonl.
func (w *world) event(args []string) error {
	o := w.newOneshot("event", "events-path")
	word := o.flags.String("kind", "", "")
	seqPath := o.flags.String("seq-path", "", "")
	o.flags.StringVar(&o.journal, "journal", "never", "")
	if err := o.parse(eventUsage, args, writer.EventsName, "kind"); err != nil {
		return err
	}
	kind, err := parseWord(o.flags, "kind", *word, artifact.States())
	if err != nil {
		return err
	}
	details, err := o.detailsValue()
	if err != nil {
		return err
	}
	now := w.clock()
	var batch writer.Batch
	batch.Add(&artifact.Event{Kind: kind, Time: now.Time, Message: o.messageValue(),
		BootID: w.bootID(), Details: details, Uptime: now.Uptime})
	mirror, err := w.newMirror(o.journal, o.path)
	if err != nil {
		return err
	}
	defer w.endMirror(mirror)
	if err := appendLocked(&writer.EventLog{Path: o.path, SeqPath: *seqPath}, &batch); err != nil || mirror == nil {
		return err
	}
	mirror.Committed(&ingest.Commit{Events: batch.Text()})
	return nil
}

func appendLocked(log *writer.EventLog, batch *writer.Batch) error {
	unlock, err := log.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return log.Append(batch)
}

// result replaces result.json.
func (w *world) result(args []string) error {
	o := w.newOneshot("result", "result-path")
	word := o.flags.String("status", "", "")
	code := o.flags.String("exit-code", "", "")
	o.flags.StringVar(&o.journal, "journal", "never", "")
	if err := o.parse(resultUsage, args, writer.ResultName, "status"); err != nil {
		return err
	}
	outcome, err := parseWord(o.flags, "status", *word, artifact.Outcomes())
	if err != nil {
		return err
	}
	details, err := o.detailsValue()
	if err != nil {
		return err
	}
	exitCode, err := o.exitCode(*code, outcome)
	if err != nil {
		return err
	}
	mirror, err := w.newMirror(o.journal, filepath.Join(filepath.Dir(o.path), writer.EventsName))
	if err != nil {
		return err
	}
	defer w.endMirror(mirror)
	r := &artifact.Result{Outcome: outcome, ExitCode: exitCode, Time: w.clock().Time,
		Message: o.messageValue(), Details: details, BootID: w.bootID()}
	file := writer.ResultFile{Path: o.path}
	if err := file.Replace(r); err != nil || mirror == nil {
		return err
	}
	mirror.Committed(&ingest.Commit{Result: r})
	return nil
}

// exitCode parses --exit-code. Without one, completed means 0 and failed has
// none: an exit code is never invented.
func (o *oneshot) exitCode(text string, outcome artifact.Outcome) (*int32, error) {
	if !given(o.flags, "exit-code") {
		if outcome == artifact.OutcomeFailed {
			return nil, nil
		}
		text = "0"
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, badUsage("result: --exit-code is %q; expected an integer from %d to %d", text, math.MinInt32, math.MaxInt32)
	}
	if outcome == artifact.OutcomeCompleted && n != 0 {
		o.say("result: completed with exit code " + text + " contradicts itself; written all the same")
	}
	code := int32(n)
	return &code, nil
}
