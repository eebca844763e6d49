// Command conformance checks what the program promises on the file system of a
// directory:
//
//	conformance [FLAGS] PROGRAM DIRECTORY
//
// It prints a line for each check: its name, "yes", "no" or "skip", and a
// remark. The directory should be empty. The file system should have less than 1 GiB
// of free space, because one check fills it. With Python and python_writer.py, a
// second implementation of the file format writes at the same time.
//
// TestFileSystems runs it on the file systems of this machine, and as the only process of
// a virtual machine.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	python := flag.String("python", "", "the Python `interpreter`")
	writer := flag.String("writer", "", "the `path` of python_writer.py")
	other := flag.String("other", "", "the `path` of the same directory on the file system below, or \"host\" if another machine shares it")
	acked := flag.Int("acked", 0, "check only that DIRECTORY/power has the first `N` lines of a stream")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: conformance [FLAGS] PROGRAM DIRECTORY")
		flag.PrintDefaults()
		os.Exit(2)
	}
	b := &bench{program: flag.Arg(0), root: flag.Arg(1), other: *other}
	if *python != "" && *writer != "" {
		b.python = []string{*python, *writer}
	}
	if *acked > 0 {
		b.run(check{"power", func(b *bench) (string, error) { return b.next(*acked) }})
		return
	}
	for _, c := range checks {
		b.run(c)
	}
}

// A bench has the program under test, and the directory of the current check.
type bench struct {
	program string
	root    string
	other   string   // root on the file system below; "host" if another machine shares it; may be ""
	python  []string // the command that starts the Python writer; may be nil
	name    string   // of the current check
}

// dir returns the state directory of the current check.
func (b *bench) dir() string { return filepath.Join(b.root, b.name) }

// path returns the path of a file in the state directory.
func (b *bench) path(name string) string { return filepath.Join(b.dir(), name) }

// A check returns a remark, and an error if the program does not do what it promises.
type check struct {
	name string
	run  func(*bench) (remark string, err error)
}

var checks = []check{
	{"crash", (*bench).crash},
	{"seq", (*bench).seq},
	{"replace", (*bench).replace},
	{"rotation", (*bench).rotation},
	{"torn", (*bench).torn},
	{"verify", (*bench).verify},
	{"repair", (*bench).repair},
	{"wait", (*bench).wait},
	{"wait-other", (*bench).waitOther},
	{"links", (*bench).links},
	{"modes", (*bench).modes},
	{"full", (*bench).full},
}

// A skip is the reason why a check cannot be done here.
type skip string

func (s skip) Error() string { return string(s) }

func (b *bench) run(c check) {
	b.name = c.name
	remark, err := c.run(b)
	answer := "yes"
	if s, ok := err.(skip); ok {
		answer, remark = "skip", string(s)
	} else if err != nil {
		answer, remark = "no", err.Error()
	}
	fmt.Printf("@CHECK %s %s %q\n", c.name, answer, remark)
}
