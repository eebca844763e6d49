package main

import (
	"flag"
	"io"
	"path/filepath"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
)

// plot draws what happened to a guest. Lines that are no events are passed over:
// show names them.
func (w *world) plot(args []string) error {
	flags := flag.NewFlagSet("plot", flag.ContinueOnError)
	dir := w.stateDir(flags)
	paths, err := w.parseOperands(flags, plotUsage, args)
	if err != nil {
		return err
	}
	p, err := pull(*dir, paths)
	if err != nil {
		return err
	}
	plot := timeline.Plot{Title: strings.Join(paths, " ")}
	if len(paths) == 0 {
		plot.Title = filepath.Clean(*dir)
	}
	for _, log := range p.logs {
		if err := log.draw(&plot); err != nil {
			return err
		}
	}
	return plot.Write(w.stdout)
}

// draw adds the events of a log.
func (l *pulledLog) draw(plot *timeline.Plot) error {
	defer l.file.Close()
	for {
		ln, err := l.lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if e, _ := l.reader.Event(ln.Text); e != nil && !ln.Long {
			plot.Add(e)
		}
	}
	if ln, ok := l.lines.Rest(); ok && !ln.Long {
		if e, _ := l.reader.Event(ln.Text); e != nil {
			plot.Add(e)
		}
	}
	return nil
}
