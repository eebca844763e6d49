package main

import (
	"io"
	"path/filepath"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
)

// plotMain draws what happened to a guest. Lines that are not events are skipped:
// show reports them.
func plotMain(a *app, args []string) error {
	f := a.newFlags("plot", plotUsage)
	dir := a.stateDir(f)
	paths, err := f.parseOperands(args)
	if err != nil {
		return err
	}
	files, err := openFiles(*dir, paths)
	if err != nil {
		return err
	}
	plot := timeline.Plot{Title: strings.Join(paths, " ")}
	if len(paths) == 0 {
		plot.Title = filepath.Clean(*dir)
	}
	for _, log := range files.logs {
		if err := log.addTo(&plot); err != nil {
			return err
		}
	}
	return plot.Write(a.stdout)
}

// addTo adds the events of a log to a plot, and closes the log.
func (l *logFile) addTo(plot *timeline.Plot) error {
	defer l.file.Close()
	for {
		line, err := l.lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		e, _ := l.decoder.Event(line.Text)
		if e != nil && !line.Long {
			plot.Add(e)
		}
	}
	line, ok := l.lines.Rest()
	if !ok || line.Long {
		return nil
	}
	e, _ := l.decoder.Event(line.Text)
	if e != nil {
		plot.Add(e)
	}
	return nil
}
