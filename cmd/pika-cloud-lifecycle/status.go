package main

import (
	"path/filepath"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
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
	err = file.Replace(&artifact.Status{
		State:   state,
		Time:    a.clock().Time,
		Message: f.messageValue(),
		BootID:  a.bootID(),
		Details: details,
	})
	if err == nil && state.StartsRun() {
		clearDead(filepath.Dir(f.path))
	}
	return f.writeError(err)
}

// clearDead clears the records of the writers that have died in a directory: their deaths
// concern an earlier run. If that fails, wait may report one of them.
func clearDead(path string) {
	var dir dirfs.Dir
	if dir.Open(path) == nil {
		_ = writerlock.ClearDead(&dir)
		dir.Close()
	}
}
