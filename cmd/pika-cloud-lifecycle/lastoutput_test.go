package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func TestLastLines(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", maxLastOutput/16)
	for name, c := range map[string]struct {
		text  string
		lines int
		want  string
	}{
		"nothing":                {"", 5, ""},
		"one line":               {"a\n", 5, "a"},
		"last lines":             {"a\nb\nc\n", 2, "b\nc"},
		"all lines":              {"a\nb\nc\n", 3, "a\nb\nc"},
		"no newline at the end":  {"a\nb\nc", 2, "b\nc"},
		"empty lines":            {"a\n\n\n", 2, "\n"},
		"invalid UTF-8":          {"a\xff\xfe\n\xe2\x82\nb\n", 3, "a\ufffd\ufffd\n\ufffd\ufffd\nb"},
		"carriage return":        {"10%\r20%\r\nb\n", 2, "10%\r20%\r\nb"},
		"as long as possible":    {"a\n" + long[3:] + "\nb\n", 2, long[3:] + "\nb"},
		"the whole limit":        {"a\n" + long[2:] + "\nb\n", 2, long[2:] + "\nb"},
		"one byte too long":      {"a\n" + long[1:] + "\nb\n", 2, "b"},
		"one line of the limit":  {"a\n" + long + "\n", 2, long},
		"a longer line":          {"a\n" + long + "x\n", 2, "…" + long[4:] + "x"},
		"much longer":            {long + long + long, 2, "…" + long[3:]},
		"cut in a character":     {strings.Repeat("€", 2000) + "xy", 1, "…" + strings.Repeat("€", (maxLastOutput-5)/3) + "xy"},
		"invalid, then longer":   {strings.Repeat("\xff", maxLastOutput/2), 1, "…" + strings.Repeat("\ufffd", maxLastOutput/3-1)},
		"invalid, then too long": {strings.Repeat("\xff", maxLastOutput/2) + "\nb\n", 2, "b"},
	} {
		for _, size := range []int{1, 7, 1 << 20} { // of the chunks
			tail := outputTail{}
			for chunk := []byte(c.text); len(chunk) > 0; {
				n := min(size, len(chunk))
				tail.keep(chunk[:n])
				chunk = chunk[n:]
			}
			if got := lastLines(tail.kept, c.lines); got != c.want {
				t.Errorf("%s, chunks of %d: %d bytes %q, expected %d bytes %q", name, size, len(got), got, len(c.want), c.want)
			}
		}
	}
}

// Whatever the output and its chunks are, the last lines are what a simple program that has
// all of it would return.
func TestLastLines_random(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var text []byte
		for range r.IntN(40) {
			text = append(text, bytes.Repeat([]byte{"a\xff\xe2\n"[r.IntN(4)]}, r.IntN(1+r.IntN(2500)))...)
			text = append(text, []string{"\n", "€", ""}[r.IntN(3)]...)
		}
		var tail outputTail
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(5000))
			tail.keep(rest[:n])
			rest = rest[n:]
		}
		lines := 1 + r.IntN(maxTailLines)
		got, want := lastLines(tail.kept, lines), lastLines(text, lines)
		if got != want || len(got) > maxLastOutput || !utf8.ValidString(got) || strings.Count(got, "\n") >= lines {
			t.Fatalf("%q, %d lines: %q, expected %q", text, lines, got, want)
		}
	}
}

// launchTail starts run with --tail.
func launchTail(t *testing.T, script string, flags ...string) *process {
	t.Helper()
	testenv.Tool(t, "bash")
	return launch(t, t.TempDir(), nil, append(append([]string{"run", "--tail"}, flags...), "--", "bash", "-c", script)...)
}

// The result of a failed run has the last lines that the command has printed, and the
// standard error of run has everything.
func TestRun_tail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script, stderr, details string
		code                          int
	}{
		{"failed", "seq 9 >&2; exit 3", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", `{"last_output":"7\n8\n9"}`, 3},
		{"killed", "seq 9 >&2; kill -KILL $$", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", `{"signal":"SIGKILL","last_output":"7\n8\n9"}`, 137},
		{"completed", "seq 9 >&2", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "", 0},
		{"nothing printed", "echo out; exit 3", "", "", 3},
		{"invalid UTF-8", `printf 'a\377\0\n\033[1mb' >&2; exit 3`, "a\xff\x00\n\x1b[1mb", `{"last_output":"a` + "\ufffd" + `\u0000\n\u001b[1mb"}`, 3},
		{"child of the command", "(seq 9 >&2); exit 3", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", `{"last_output":"7\n8\n9"}`, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := launchTail(t, c.script, "3")
			if got := p.exits(c.code); got != c.stderr {
				t.Errorf("stderr is %q, expected %q", got, c.stderr)
			}
			if c.details == "" {
				if strings.Contains(p.file("result.json"), "last_output") {
					t.Errorf("%s", p.file("result.json"))
				}
			} else {
				p.contains("result.json", `"details": `+c.details+",")
			}
			p.checkDir()
		})
	}
}

// All output passes unchanged, even a lot of it, and what is in the pipe when the command ends.
func TestRun_tail_much_output(t *testing.T) {
	t.Parallel()
	p := launchTail(t, `seq 500000 >&2; exit 3`, "1")
	var want bytes.Buffer
	for i := range 500000 {
		fmt.Fprintln(&want, i+1)
	}
	if got := p.exits(3); got != want.String() {
		t.Errorf("stderr has %d bytes, expected %d", len(got), want.Len())
	}
	p.contains("result.json", `{"last_output":"500000"}`)
}

// A child of the command that lives on keeps the pipe open, and may print without end. run
// does not wait for it.
func TestRun_tail_child_lives_on(t *testing.T) {
	t.Parallel()
	for name, child := range map[string]string{"silent": "exec sleep 1000", "prints": "while echo more; do :; done"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := launchTail(t, `echo first >&2; (echo $BASHPID >`+dir+`/pid; `+child+`) 3>&- >&2 & until [ -s `+dir+`/pid ]; do sleep 0.01; done; exit 3`, "100")
			stderr := p.exits(3)
			var pid int
			_, err := fmt.Sscan(testenv.ReadFile(t, dir+"/pid"), &pid)
			testenv.Must(t, err)
			if name == "silent" {
				testenv.Must(t, unix.Kill(pid, unix.SIGKILL))
			}
			// The other one gets SIGPIPE, because no process reads the pipe any more.
			waitUntil(t, "the child has ended", func() bool { return unix.Kill(pid, 0) != nil || isZombie(pid) })
			if !strings.HasPrefix(stderr, "first\n") || !strings.HasSuffix(stderr, "\n") {
				t.Errorf("stderr is %.100q…", stderr)
			}
			p.contains("result.json", "last_output")
		})
	}
}

func isZombie(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Contains(string(text), ") Z ")
}

// blockedTail starts run with a standard error that is full, and a command that prints
// when run has begun to pass its output on. It returns the reader, and the duplicate of a
// writer.
func blockedTail(t *testing.T) (p *process, reader *os.File, writer int) {
	t.Helper()
	reader, w, err := os.Pipe()
	testenv.Must(t, err)
	t.Cleanup(func() { reader.Close() })
	fillPipe(t, w)
	p = launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = w }, "run", "--tail", "2", "--", "sh", "-c", "echo 0 >&2; sleep 0.2; seq 9999 >&2; exit 3")
	writer, err = unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	testenv.Must(t, err, w.Close())
	return p, reader, writer
}

// If the reader of stderr does not read, the result is recorded anyway. When it reads again,
// it gets everything, even if another process has made the pipe non-blocking.
func TestRun_tail_reader_blocked(t *testing.T) {
	t.Parallel()
	for name, nonblocking := range map[string]bool{"blocking": false, "non-blocking": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, reader, writer := blockedTail(t)
			testenv.Must(t, unix.SetNonblock(writer, nonblocking), unix.Close(writer))
			p.await("result.json", `{"last_output":"9998\n9999"}`)
			text, err := io.ReadAll(reader)
			testenv.Must(t, err)
			var want strings.Builder
			for i := range 10000 {
				fmt.Fprintln(&want, i)
			}
			if got := string(bytes.TrimLeft(text, "\x00")); got != want.String() {
				t.Errorf("%d bytes, expected %d", len(got), want.Len())
			}
			p.exits(3)
		})
	}
}

// If the reader of stderr never reads, run ends anyway.
func TestRun_tail_reader_never_reads(t *testing.T) {
	t.Parallel()
	p, _, writer := blockedTail(t)
	unix.Close(writer)
	p.exits(3)
	p.contains("result.json", `{"last_output":"9998\n9999"}`)
}

// If stderr has no reader, the command gets SIGPIPE, as it does without the pipe.
func TestRun_tail_no_reader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	r.Close()
	p := launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = w }, "run", "--tail", "1", "--", "sh", "-c", "while echo more >&2; do :; done; exit 3")
	w.Close()
	p.exits(128 + int(unix.SIGPIPE))
	p.contains("result.json", `{"signal":"SIGPIPE","last_output":"more"}`)
}

// A disk that is full, behind stderr, does not end the command.
func TestRun_tail_full_disk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	testenv.Must(t, err)
	defer full.Close()
	p := launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = full }, "run", "--tail", "1", "--", "sh", "-c", "seq 100000 >&2; exit 3")
	p.exits(3)
	p.contains("result.json", `{"last_output":"100000"}`)
}

// A terminal that Ctrl-S has stopped blocks the command and not the result.
func TestTerminal_tail_ctrl_s(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	term := newTerminal(t, dir, "-c", program+` run --tail 1 -- sh -c 'echo up; read x; seq 9 >&2; exit 3'; echo "code: $?"`)
	term.expect("up\r")
	term.send("\x13a\n")
	waitUntil(t, "the result is recorded", func() bool {
		return strings.Contains(testenv.ReadIfExists(t, dir+"/result.json"), `{"last_output":"9"}`)
	})
	term.send("\x11")
	term.expect("8\r\n9\r")
	term.expect("code: 3")
}

// printAll prints lines to standard error, more than a pipe holds, and ends.
const printAll = forkAll + `
syswrite(STDERR, "line $_\n") for (1..20000);
syswrite($stream, "KIND=ready\n");
exit 5;
`

// A command that starts as many processes as it may does not prevent that its output is
// passed on and kept, while the reader of stderr is slow.
func TestRun_tail_process_limit(t *testing.T) {
	perl := testenv.Tool(t, "perl")
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	defer r.Close()
	fillPipe(t, w)
	change := limitedProcess(t, enterCgroup(t, processLimit))
	p := launch(t, openDir(t), func(cmd *exec.Cmd) {
		change(cmd)
		cmd.Stderr = w
	}, "run", "--tail", "2", "--journal", "always", "--", perl, "-e", printAll)
	w.Close()
	text, err := io.ReadAll(r)
	testenv.Must(t, err)
	p.exits(5)
	if n := bytes.Count(text, []byte("line ")); n != 20000 {
		t.Errorf("%d lines", n)
	}
	p.contains("result.json", `"last_output":"line 19999\nline 20000"}`)
}
