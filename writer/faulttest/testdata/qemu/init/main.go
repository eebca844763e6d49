// Command init is all that runs in the guest of the power-loss test. It mounts
// the disk, shows on its console what the last guest left there, has the next
// writer in, shows it again, and runs ingest under load, printing each
// acknowledgement, until its power goes.
//
// Lines for the test begin with "@". The kernel's command line says what to do:
// read=NAME and load=NAME name the state directories on the disk.
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
	fmt.Println() // behind what the firmware has printed
	if err := run(); err != nil {
		fmt.Println("@ERROR", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // which ends qemu -no-reboot
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	options, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, option := range strings.Fields(string(options)) {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "read":
			err = read(filepath.Join(disk, value))
		case "load":
			err = load(filepath.Join(disk, value))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
	}
	fmt.Println("@END")
	return nil
}

func mountAll() error {
	for _, m := range [][3]string{{"devtmpfs", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}} {
		if err := mount(m[0], m[1], m[2]); err != nil {
			return err
		}
	}
	modules, err := filepath.Glob("/modules/*") // named in the order in which they load
	if err != nil {
		return err
	}
	for _, path := range modules {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		f.Close()
	}
	return mount("/dev/vda", disk, "ext4")
}

func mount(device, path, kind string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, path, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// read shows a state directory before and after the next writer.
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
	text, _ := cmd.CombinedOutput() // the test knows its exit code
	fmt.Printf("@NEXT %d %q\n", cmd.ProcessState.ExitCode(), text)
	return show("@HEALED", dir)
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

// load feeds the input to ingest: a few lines, and when the first of them is
// acknowledged the next ones, so that there is always more than is acknowledged.
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
	return io.ErrUnexpectedEOF // the power was to go before
}
