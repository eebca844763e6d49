package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// plotMain draws the events of a guest. Lines that are not events are counted here;
// show prints what is wrong with each.
func plotMain(a *app, args []string) error {
	f := a.newFlags("plot", plotUsage)
	dir := a.stateDir(f)
	paths, err := f.pathOperands(args)
	if err != nil {
		return err
	}
	files := openFiles(*dir, paths)
	defer files.close()
	plot := timeline.Plot{Title: strings.Join(paths, " "), Result: files.result, ResultUnreadable: files.resultUnreadable,
		ResultUnknown: !files.isDir}
	if len(paths) == 0 {
		plot.Title = filepath.Clean(*dir)
	}
	for _, log := range files.logs {
		err := log.showAll(plotView{&plot})
		switch {
		case err != nil:
			files.problems = append(files.problems, err)
		case log.problems.skipped > 0:
			a.warn(fmt.Sprintf("%s: %s not drawn; run show to see what is wrong", log.path, skippedLines(log.problems.skipped)))
		}
	}
	if plot.Events() == 0 {
		if len(files.problems) == 0 {
			return fmt.Errorf("%s has no events to draw; run show to see the status and the result", plot.Title)
		}
		return a.logProblems(files.problems)
	}
	if err := plot.Write(a.stdout); err != nil {
		return err
	}
	if _, terminal := columnsOf(a.stdout); terminal {
		a.warn("plot: the terminal shows the SVG as text; write it to a file, as in plot > plot.svg, and open it in a browser")
	}
	return a.logProblems(files.problems)
}

func skippedLines(n uint64) string {
	if n == 1 {
		return "1 line is"
	}
	return fmt.Sprintf("%d lines are", n)
}

// A plotView adds events to a plot.
type plotView struct{ plot *timeline.Plot }

func (v plotView) current(*openedFiles) {}

func (v plotView) event(_ *logFile, _ uint64, e *artifact.Event, _ []byte) { v.plot.Add(e) }

func (v plotView) problem(*logFile, *lineProblem) {}

func (v plotView) omitted(*logFile, uint64) {}

func (v plotView) Err() error { return nil }

func (v plotView) Flush() error { return nil }
