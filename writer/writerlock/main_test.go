package writerlock

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// childRole is the environment variable that makes the test binary run a child process
// instead of its tests.
const childRole = "WRITERLOCK_TEST_ROLE"

// TestMain runs the tests or, in a child process, the function that childRole names.
func TestMain(m *testing.M) {
	roles := map[string]func(dir string, kind Kind) error{"hold": childHold, "repeat": childRepeat}
	role, ok := roles[os.Getenv(childRole)]
	if !ok {
		os.Exit(testenv.Main{M: m}.Run())
	}
	if err := role(os.Args[1], Kind(os.Args[2])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// childHold acquires the lock, prints the slot, and does what each line of standard input
// names.
func childHold(dir string, kind Kind) error {
	var d dirfs.Dir
	var l Lock
	if err := d.Open(dir); err != nil {
		return err
	}
	if err := l.Acquire(&d, kind, testBoot); err != nil {
		return err
	}
	fmt.Println(l.slot)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); fmt.Println("done") {
		switch in.Text() {
		case "clear":
			if err := l.ClearDead(); err != nil {
				return err
			}
		case "keep":
			l.Release(true)
		case "release":
			l.Release(false)
		case "fork": // a command that lives on, as run may start one
			cmd := exec.Command("sleep", "60")
			if err := cmd.Start(); err != nil {
				return err
			}
			fmt.Println(cmd.Process.Pid)
		}
	}
	return nil
}

// childRepeat acquires and releases the lock until standard input ends.
func childRepeat(dir string, kind Kind) error {
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	var d dirfs.Dir
	if err := d.Open(dir); err != nil {
		return err
	}
	for n := 0; ; n++ {
		select {
		case <-ended:
			fmt.Println(n)
			return nil
		default:
		}
		var l Lock
		if err := l.Acquire(&d, kind, testBoot); err != nil {
			return err
		}
		if n%3 == 0 {
			if err := l.ClearDead(); err != nil {
				return err
			}
		}
		l.Release(false)
	}
}

// A child is a process that holds the lock.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	slot int
}

func start(t *testing.T, role, dir string, kind Kind) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], dir, string(kind))}
	c.cmd.Env = append(os.Environ(), childRole+"="+role)
	c.cmd.Stderr = os.Stderr
	in, err1 := c.cmd.StdinPipe()
	out, err2 := c.cmd.StdoutPipe()
	testenv.Must(t, err1, err2, c.cmd.Start())
	c.in, c.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	return c
}

// hold starts a process that holds the lock.
func hold(t *testing.T, dir string, kind Kind) *child {
	t.Helper()
	c := start(t, "hold", dir, kind)
	c.slot = c.number()
	return c
}

func (c *child) line() string {
	c.t.Helper()
	text, err := c.out.ReadString('\n')
	testenv.Must(c.t, err)
	return text[:len(text)-1]
}

func (c *child) number() int {
	c.t.Helper()
	n, err := strconv.Atoi(c.line())
	testenv.Must(c.t, err)
	return n
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// do makes the process run a command of childHold.
func (c *child) do(command string) {
	c.t.Helper()
	fmt.Fprintln(c.in, command)
	if got := c.line(); got != "done" {
		c.t.Fatalf("%s: %s", command, got)
	}
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// end ends the process without a release: the kernel releases the lock.
func (c *child) end() {
	c.t.Helper()
	c.in.Close()
	testenv.Must(c.t, c.cmd.Wait())
}
