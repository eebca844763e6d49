package main

import (
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// statusMain runs the subcommand status, which replaces status.json.
func statusMain(a *app, args []string) error {
	f := a.newOneshotFlags("status", statusUsage, "status-path")
	word := f.String("state", "", "")
	if err := f.parse(args, writer.StatusName, "state"); err != nil {
		return err
	}
	state, err := parseWord(f.flagSet, "state", *word, artifact.States())
	if err != nil {
		return err
	}
	details, err := f.detailsValue()
	if err != nil {
		return err
	}
	file := writer.StatusFile{Path: f.path}
	return file.Replace(&artifact.Status{
		State:   state,
		Time:    a.clock().Time,
		Message: f.messageValue(),
		BootID:  a.bootID(),
		Details: details,
	})
}
