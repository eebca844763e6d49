package main

import (
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// eventMain runs the subcommand event, which appends to events.jsonl.
func eventMain(a *app, args []string) error {
	f := a.newOneshotFlags("event", eventUsage, "events-path")
	word := f.String("kind", "", "")
	seqPath := f.String("seq-path", "", "")
	f.StringVar(&f.journal, "journal", "never", "")
	if err := f.parse(args, writer.EventsName, "kind"); err != nil {
		return err
	}
	batch, err := a.newEvent(f, *word)
	if err != nil {
		return err
	}
	mirror, err := a.newMirror(f.journal, f.path)
	if err != nil {
		return err
	}
	defer a.closeMirror(mirror)
	err = appendLocked(&writer.EventLog{Path: f.path, SeqPath: withoutSlash(*seqPath), Warn: a.warn}, batch)
	if err != nil || mirror == nil {
		return f.writeError(err)
	}
	mirror.Committed(&ingest.Commit{Events: batch.Text()})
	return nil
}

// usualEvent is a size in bytes that most events do not reach. A batch that grows step by step would
// allocate several smaller buffers first.
const usualEvent = 512

// newEvent returns a batch with the event that the command line describes.
func (a *app) newEvent(f *oneshotFlags, word string) (*writer.Batch, error) {
	kind, err := parseWord(f.flagSet, "kind", word, artifact.States())
	if err != nil {
		return nil, err
	}
	details, err := f.detailsValue()
	if err != nil {
		return nil, err
	}
	now := a.clock()
	batch := new(writer.Batch)
	batch.Grow(usualEvent)
	batch.Add(&artifact.Event{
		Kind:    kind,
		Time:    now.Time,
		Message: f.messageValue(),
		BootID:  a.bootID(),
		Details: details,
		Uptime:  now.Uptime,
	})
	return batch, nil
}

func appendLocked(log *writer.EventLog, batch *writer.Batch) error {
	unlock, err := log.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return log.Append(batch)
}
