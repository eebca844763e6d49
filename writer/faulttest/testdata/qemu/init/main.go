// Command init is the only program in the guests of TestKilledMachine,
// TestFileSystems_guest and TestHost_shared_directory. It mounts the file system. The
// options on the command line of the kernel, which name state directories on it, say what
// it does then, in their order:
//
//	check=NAME         run the checks of the conformance program
//	check-shared=NAME  the same, in a directory to which the host can write
//	read=NAME          print the files that the previous boot left there, run the next
//	                   writer, and print the files again
//	load=NAME          run ingest under load, and print each acknowledgement, until the
//	                   machine is killed
//
// Lines for the test begin with "@". The options fs=TYPE and fsoptions=OPTIONS are for
// mount(2).
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const disk = "/disk"

func main() {
	fmt.Println() // end the last line of the firmware
	if err := run(); err != nil {
		fmt.Println("@ERROR", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // ends qemu, which runs with -no-reboot
}

func run() error {
	options, err := mountAll()
	if err != nil {
		return err
	}
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "read":
			err = read(filepath.Join(disk, value))
		case "load":
			err = load(filepath.Join(disk, value))
		case "check":
			err = check(filepath.Join(disk, value), "")
		case "check-shared":
			err = check(filepath.Join(disk, value), "host")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
	}
	fmt.Println("@END")
	return nil
}

// mountAll loads the modules and mounts the file systems. It returns the options on the
// command line of the kernel.
func mountAll() (options []string, err error) {
	for _, m := range [][3]string{{"devtmpfs", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}} {
		if err := mount(m[0], m[1], m[2], ""); err != nil {
			return nil, err
		}
	}
	modules, err := filepath.Glob("/modules/*") // their names have the right order
	if err != nil {
		return nil, err
	}
	for _, path := range modules {
		if err := insert(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	device, fs, fsOptions := "/dev/vda", "", ""
	options = strings.Fields(string(line))
	for _, option := range options {
		if value, ok := strings.CutPrefix(option, "fs="); ok {
			fs = value
		}
		if value, ok := strings.CutPrefix(option, "fsoptions="); ok {
			fsOptions = value
		}
	}
	if fs == "9p" || fs == "virtiofs" {
		device = "shared"
	}
	return options, mount(device, disk, fs, fsOptions)
}

// insert loads a module.
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func mount(device, path, kind, options string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, path, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// check runs the checks in a new directory. other is that of the conformance program.
func check(dir, other string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("/conformance", "-other="+other, "/program", dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	return cmd.Run()
}

// read prints the files of a state directory before and after the next writer.
func read(dir string) error {
	if err := show("@FOUND", dir); err != nil {
		return err
	}
	next, err := os.Open("/next")
	if err != nil {
		return err
	}
	defer next.Close()
	cmd := exec.Command("/program", "ingest", "--state-dir="+dir)
	cmd.Stdin = next
	text, _ := cmd.CombinedOutput() // exits with 3, because the input has an invalid line
	fmt.Printf("@NEXT %d %q\n", cmd.ProcessState.ExitCode(), text)
	if err := show("@REPAIRED", dir); err != nil {
		return err
	}
	fmt.Println("@SHOWN")
	return nil
}

func show(word, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Println(word, e.Name(), base64.StdEncoding.EncodeToString(text))
	}
	return nil
}

// load writes the input to ingest, a few lines at a time. It writes the next lines when
// the first of the last ones is acknowledged, so ingest always has lines to read.
func load(dir string) error {
	input, err := os.ReadFile("/input")
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/program", "ingest", "--state-dir="+dir, "--ack-fd=3")
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{w}, os.Stdout, os.Stdout
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.Close()
	acks := bufio.NewReader(r)
	lines := strings.SplitAfter(string(input), "\n")
	for part := 1; len(lines) > 0; part++ {
		n := min(part%7+1, len(lines))
		if _, err := io.WriteString(in, strings.Join(lines[:n], "")); err != nil {
			return err
		}
		lines = lines[n:]
		text, err := acks.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Print("@ACK ", text)
	}
	return io.ErrUnexpectedEOF // the machine should have been killed before
}
