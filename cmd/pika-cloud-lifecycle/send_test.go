package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// hostileTexts are values that a wrong encoding could turn into something else.
var hostileTexts = []string{
	"", " ", "\n", "\r", "\t", "'", `"`, `\`, "$", "`", "#", "{", "}", "=", ":=", "-", "--", "--to", "--to=/dev/null",
	"\nSTATE=failed", "x\nSTATE=failed", "x\r\nSTATE=failed\n", "STATE=failed", " STATE=failed", "x STATE=failed EXIT_CODE=9",
	"'\nSTATE=failed\nX='", "' STATE=failed '", "$'\\n'STATE=failed", "\\\nSTATE=failed", "\\' STATE=failed", `\n`, `\\n`, `'\''`,
	`{"state":"failed"}`, "\n{\"state\":\"failed\"}\n", "$HOME", "$(id)", "`id`", "*", "~", "!!", "%s%n", "a;b|c&d<e>f",
	"\x1b[2J", "\x7f", "\x01\x02\x1f", "\x81\x82\x88\x8d", "\xff\xfe", "\xed\xa0\x80", "\xc3", "\u2028\u2029\u0085\ufeff", "\U0001f4a9",
	"\xa5\x5c", "\xb3\x5c' STATE=failed", "\xa5\x5c\nSTATE=failed", "\xa5\n", "\xa5'", "\xa4\xa4\xa4\xe5\xb3\x5c", // Big5; the second byte may be a backslash
}

// randomText returns a text without NUL, made of bytes or of parts of hostileTexts.
func randomText(rnd *rand.Rand) string {
	const quoting = "'\"\\$`\n\r\t =#{}-aS\xa5\xb3\xc3\xff"
	n := rnd.IntN(24)
	if rnd.IntN(50) == 0 {
		n = rnd.IntN(800)
	}
	kind := rnd.IntN(4)
	var b []byte
	for len(b) < n {
		switch kind {
		case 0:
			b = append(b, byte(1+rnd.IntN(255)))
		case 1:
			b = append(b, quoting[rnd.IntN(len(quoting))])
		case 2:
			b = append(b, hostileTexts[rnd.IntN(len(hostileTexts))]...)
		case 3:
			b = fmt.Appendf(b, "%c", 1+rnd.IntN(0x10ffff))
		}
	}
	return string(b)
}

// recorded returns the text as the artifacts have it: each byte that is not part of a
// character in UTF-8 is U+FFFD.
func recorded(text string) string { return string([]rune(text)) }

// encode returns the line that send writes for its arguments.
func encode(pairs ...string) (string, error) {
	f := new(app).newFlags("send", sendUsage)
	line, err := f.encodeLine(pairs)
	return string(line), err
}

// checkEncoding checks that a line has the text twice and nothing else.
func checkEncoding(t *testing.T, text string) {
	t.Helper()
	line, err := encode("STATE=ready", "MESSAGE="+text, "DETAILS.m="+text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	line, ended := strings.CutSuffix(line, "\n")
	if !ended || strings.ContainsAny(line, "\n\x00") || directive.IsBlank([]byte(line)) {
		t.Fatalf("%q becomes %q", text, line)
	}
	var decoder directive.Decoder
	d, rejected := decoder.Decode([]byte(line), false)
	if rejected != nil {
		t.Fatalf("%q becomes %q: %v", text, line, rejected)
	}
	var message string
	var details map[string]string
	testenv.Must(t, json.Unmarshal(d.Message, &message), json.Unmarshal(d.Details, &details))
	if d.Type != directive.Transition || d.State != "ready" || message != recorded(text) || len(details) != 1 || details["m"] != message {
		t.Fatalf("%q becomes %q: %+v", text, line, d)
	}
}

func TestSend_encoding(t *testing.T) {
	for _, text := range hostileTexts {
		checkEncoding(t, text)
	}
	for c := 1; c < 256; c++ {
		for _, text := range []string{"%c", "%c%c", "a%c1", " %c", "%c ", "\xa5%c"} {
			checkEncoding(t, strings.ReplaceAll(text, "%c", string([]byte{byte(c)})))
		}
	}
	const seed = 20261126
	rnd := rand.New(rand.NewPCG(seed, seed))
	for range 20_000 {
		checkEncoding(t, randomText(rnd))
	}
}

// A value that is a directive itself is quoted, because a bare one is usually a mistake of
// the caller, which ingest warns about.
func TestSend_quotes(t *testing.T) {
	for text, want := range map[string]string{
		"ready": "ready", "a-b_c.d:8080/@%+,": "a-b_c.d:8080/@%+,", "": "", "two words": "'two words'",
		"STATE=ready": "'STATE=ready'", "it's": `$'it\'s'`, "a\nb\\": `$'a\nb\\'`, `a\b`: `'a\b'`,
	} {
		line, err := encode("KIND=ready", "MESSAGE="+text)
		if want := "KIND=ready MESSAGE=" + want + "\n"; err != nil || line != want {
			t.Errorf("%q becomes %q, %v; want %q", text, line, err, want)
		}
	}
}

func FuzzSend_encoding(f *testing.F) {
	for _, text := range hostileTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) < 900 && !strings.Contains(text, "\x00") {
			checkEncoding(t, text)
		}
	})
}

// FuzzSend_name checks that no name of an argument adds a line or hides the directive.
func FuzzSend_name(f *testing.F) {
	for _, text := range hostileTexts {
		f.Add(text, "x")
		f.Add("DETAILS."+text, text)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		line, err := encode(name+"="+text, "KIND=ready")
		if err != nil || strings.Contains(name, "=") || strings.Contains(line, "\x00") {
			return
		}
		var decoder directive.Decoder
		d, rejected := decoder.Decode([]byte(strings.TrimSuffix(line, "\n")), false)
		if strings.Count(line, "\n") != 1 || rejected != nil || d.Type != directive.Event {
			t.Fatalf("%q=%q becomes %q: %v", name, text, line, rejected)
		}
	})
}

// An argument that is no pair is a usage error, and the message has what to write instead.
func TestSend_hints(t *testing.T) {
	for args, want := range map[string]string{
		"ready":                         `"ready" is not KEY=value; write STATE=ready`,
		"READY":                         `"READY" is not KEY=value; write STATE=ready`,
		"STATE ready":                   `"STATE" is not KEY=value; write STATE=ready`,
		"STATE=failed EXIT_CODE":        `"EXIT_CODE" is not KEY=value; write EXIT_CODE=value`,
		"STATE MESSAGE=x":               `"STATE" is not KEY=value; write STATE=value`,
		"STATE = ready":                 `"STATE" is not KEY=value; write KEY=value without spaces`,
		"STATE= ready":                  `"ready" is not KEY=value; write STATE=ready without spaces`,
		"STATE=ready MESSAGE=two words": `"words" is not KEY=value; quote a value that has spaces, as in MESSAGE="two words"`,
		`{"state":"ready"}`:             `"{\"state\":\"ready\"}" is not KEY=value; write each key as one argument, as in STATE=ready`,
		"listening":                     `"listening" is not KEY=value; write a directive such as STATE=ready`,
		"":                              `expected a directive, as in send STATE=ready MESSAGE="$message"`,
	} {
		sends(t, sendCommand(t, nil, strings.Fields(args)...), exitUsage, "send: "+want+"\n")
	}
}

// A whole line in one argument is rejected, with what to write instead.
func TestSend_line_in_one_argument(t *testing.T) {
	const hint = `; write each pair as one argument, as in send STATE=ready MESSAGE="$message"`
	sends(t, sendCommand(t, nil, "STATE=ready MESSAGE=x"), exitUsage, "unreachable, stopped, destroyed"+hint+"\n")
	sends(t, sendCommand(t, nil, "STATE=failed", "EXIT_CODE=7 MESSAGE=x"), exitUsage, "to 2147483647"+hint+"\n")
	sends(t, sendCommand(t, nil, "STATE=ready", `DETAILS={"a": "b=c"`), exitUsage, "closing brace\n")
}

// sudo removes the variables of run, so the user must name the FIFO.
func TestSend_sudo(t *testing.T) {
	sends(t, sendCommand(t, []string{"SUDO_COMMAND=/bin/send"}, "STATE=ready"), exitFailed,
		"/lifecycle.fifo: no such file or directory; start pika-cloud-lifecycle.socket, or name the FIFO of run --fifo with --to: sudo removes the variables of run\n")
}

// sendCommand returns a command that runs send without the stream of an outer run, and with
// these variables.
func sendCommand(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := limitedCommand(testenv.Program(t), append([]string{"send"}, args...)...)
	cmd.Env = append(without(os.Environ(), streamVar, streamIDVar, fifoVar, "SUDO_COMMAND"), "PIKA_LIFECYCLE_DIR="+t.TempDir())
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// sends runs a command of sendCommand, and checks its exit code and the text of its error.
func sends(t *testing.T, cmd *exec.Cmd, wantCode int, wantText string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text := stderr.String()
	if cmd.ProcessState.ExitCode() != wantCode || !strings.Contains(text, wantText) || (wantText == "") != (text == "") {
		t.Errorf("%v: %v; want exit code %d and %q\n%s", cmd.Args[1:], cmd.ProcessState, wantCode, wantText, text)
	}
	if strings.Count(text, "\n") > 1 {
		t.Errorf("the error has several lines:\n%s", text)
	}
}

// newPipe returns the ends of a pipe, which are not in non-blocking mode.
func newPipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	var fds [2]int
	testenv.Must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	return endsOf(t, fds)
}

// newSocket returns the ends of a stream socket.
func newSocket(t *testing.T) (read, write *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	testenv.Must(t, err)
	return endsOf(t, fds)
}

func endsOf(t *testing.T, fds [2]int) (read, write *os.File) {
	read, write = os.NewFile(uintptr(fds[0]), "read end"), os.NewFile(uintptr(fds[1]), "write end")
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

// newFIFO returns the path of a FIFO and both its ends.
func newFIFO(t *testing.T, path string) (read, write *os.File) {
	t.Helper()
	testenv.Must(t, unix.Mkfifo(path, 0o600))
	r, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	testenv.Must(t, err)
	w, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	testenv.Must(t, err, unix.SetNonblock(r, false))
	return endsOf(t, [2]int{r, w})
}

// contents returns what is in a pipe or a socket.
func contents(t *testing.T, read *os.File) string {
	t.Helper()
	var text strings.Builder
	buf := make([]byte, 64<<10)
	for poll(int(read.Fd()), unix.POLLIN, 0) {
		n, err := unix.Read(int(read.Fd()), buf)
		testenv.Must(t, err)
		if n == 0 {
			break
		}
		text.Write(buf[:n])
	}
	return text.String()
}

// open opens a file for the table of TestSend_descriptor.
func open(t *testing.T, path string, mode int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, mode, 0o600)
	testenv.Must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// TestSend_descriptor_is_not_the_stream checks that send writes to no other file than the
// stream. With the path of the stream's FIFO, it writes there instead.
func TestSend_descriptor_is_not_the_stream(t *testing.T) {
	dir := t.TempDir()
	regular := filepath.Join(dir, "regular")
	testenv.Must(t, os.WriteFile(regular, nil, 0o600))
	read, write := newPipe(t)
	other := streamIDVar + "=1:2"
	for name, row := range map[string]struct {
		number string
		file   *os.File // descriptor 3, and standard input and output
		id     string
		want   string
	}{
		"text":             {"three", nil, "", `is "three", which is not the number of a descriptor`},
		"negative":         {"-1", nil, "", `is "-1", which is not the number of a descriptor`},
		"too large":        {"99999999999999999999", nil, "", "which is not the number of a descriptor"},
		"with a newline":   {"3\n", write, "", `is "3\n", which is not the number of a descriptor`},
		"closed":           {"7", nil, "", "descriptor 7 of PIKA_LIFECYCLE_FD is closed"},
		"never open":       {"2147483648", nil, "", "is closed"},
		"regular file":     {"3", open(t, regular, os.O_RDWR), "", "is not a pipe"},
		"directory":        {"3", open(t, dir, os.O_RDONLY), "", "is not a pipe"},
		"null device":      {"3", open(t, "/dev/null", os.O_RDWR), "", "is not a pipe"},
		"terminal":         {"3", open(t, "/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY), "", "is not a pipe"},
		"read end":         {"3", read, "", "is not open for writing"},
		"standard input":   {"0", read, "", "is not open for writing"},
		"another pipe":     {"3", write, other, "is not the stream of PIKA_LIFECYCLE_STREAM"},
		"unknown identity": {"3", write, streamIDVar + "=x", "is not the stream of PIKA_LIFECYCLE_STREAM"},
		"file by identity": {"3", open(t, regular, os.O_RDWR), other, "is not the stream of PIKA_LIFECYCLE_STREAM"},
	} {
		t.Run(name, func(t *testing.T) {
			env := []string{streamVar + "=" + row.number, row.id}
			command := func(env []string) *exec.Cmd {
				cmd := sendCommand(t, env, "STATE=ready")
				if row.file != nil {
					cmd.Stdin, cmd.ExtraFiles = row.file, []*os.File{row.file}
				}
				return cmd
			}
			sends(t, command(env), exitFailed, row.want)
			sends(t, command(env), exitFailed, "; start the outer command with run --fifo, or name a FIFO with --to\n")
			path := filepath.Join(t.TempDir(), "fifo")
			fifo, _ := newFIFO(t, path)
			sends(t, command(append(env, fifoVar+"="+path)), exitOK, "")
			if got := contents(t, fifo); got != "STATE=ready\n" {
				t.Errorf("the FIFO has %q", got)
			}
		})
	}
	if text := testenv.ReadFile(t, regular) + contents(t, read); text != "" {
		t.Errorf("another file has %q", text)
	}
}

// TestSend_descriptor checks the descriptors that send accepts.
func TestSend_descriptor(t *testing.T) {
	for name, open := range map[string]func(*testing.T) (read, write *os.File){
		"pipe":   newPipe,
		"socket": newSocket,
		"FIFO":   func(t *testing.T) (read, write *os.File) { return newFIFO(t, filepath.Join(t.TempDir(), "fifo")) },
	} {
		t.Run(name, func(t *testing.T) {
			read, write := open(t)
			cmd := sendCommand(t, []string{streamVar + "=3", streamIDVar + "=" + streamID(int(write.Fd()))}, "STATE=ready", "MESSAGE=a b")
			cmd.ExtraFiles = []*os.File{write}
			sends(t, cmd, exitOK, "")
			cmd = sendCommand(t, []string{streamVar + "=1", fifoVar + "=/nowhere"}, "STATE=ready")
			cmd.Stdout = write
			sends(t, cmd, exitOK, "")
			cmd = sendCommand(t, []string{streamVar + "=3"}, "STATE=redy")
			cmd.ExtraFiles = []*os.File{write}
			sends(t, cmd, exitUsage, "did you mean ready?")
			if got, want := contents(t, read), "STATE=ready MESSAGE='a b'\nSTATE=ready\n"; got != want {
				t.Errorf("%q arrives, want %q", got, want)
			}
		})
	}
}

// TestSend_no_reader checks that send exits with 1, and does not die of SIGPIPE.
func TestSend_no_reader(t *testing.T) {
	for name, open := range map[string]func(*testing.T) (read, write *os.File){
		"pipe": newPipe, "socket": newSocket,
		"FIFO": func(t *testing.T) (read, write *os.File) { return newFIFO(t, filepath.Join(t.TempDir(), "fifo")) },
	} {
		t.Run(name, func(t *testing.T) {
			read, write := open(t)
			read.Close()
			const want = "send: descriptor %d of PIKA_LIFECYCLE_FD has no reader; start run or ingest first\n"
			cmd := sendCommand(t, []string{streamVar + "=3"}, "STATE=ready", "--timeout", "1h")
			cmd.ExtraFiles = []*os.File{write}
			sends(t, cmd, exitFailed, fmt.Sprintf(want, 3))
			cmd = sendCommand(t, []string{streamVar + "=1"}, "STATE=ready", "--timeout", "1h")
			cmd.Stdout = write
			sends(t, cmd, exitFailed, fmt.Sprintf(want, 1))
		})
	}
	path := filepath.Join(t.TempDir(), "fifo")
	testenv.Must(t, unix.Mkfifo(path, 0o600))
	sends(t, sendCommand(t, nil, "STATE=ready", "--timeout", "1h", "--to", path), exitFailed, "send: --to "+path+" has no reader; start run or ingest first\n")
	sends(t, sendCommand(t, []string{fifoVar + "=" + path}, "STATE=ready", "--timeout", "1h"), exitFailed, " has no reader; ")
}

// fill fills the channel of which write is the write end, and does not change its flags.
func fill(t *testing.T, write *os.File) {
	t.Helper()
	fd := int(write.Fd())
	if !dirfs.IsPipe(fd) {
		for err := error(nil); err != unix.EAGAIN; {
			if _, err = unix.SendmsgN(fd, make([]byte, 1000), nil, nil, unix.MSG_DONTWAIT); err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
		}
		return
	}
	own, err := openToWrite(fmt.Sprintf("/proc/self/fd/%d", fd), 0)
	testenv.Must(t, err)
	defer unix.Close(own)
	for err == nil {
		_, err = unix.Write(own, make([]byte, pipeBuf))
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
}

// statusFlags returns the flags of an open file description, which all its descriptors share.
func statusFlags(t *testing.T, f *os.File) int {
	t.Helper()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	testenv.Must(t, err)
	return flags
}

// A fullChannel is a way to a stream that does not read.
type fullChannel struct {
	read, write *os.File
	command     func(t *testing.T, args ...string) *exec.Cmd
}

// fullChannels returns all kinds of channels. A pipe of another user cannot be reopened.
func fullChannels(t *testing.T) map[string]fullChannel {
	all := make(map[string]fullChannel)
	for name, open := range map[string]func(*testing.T) (read, write *os.File){
		"pipe": newPipe, "socket": newSocket, "pipe of another user": newPipe,
	} {
		if name == "pipe of another user" && !testenv.IsRoot() {
			continue
		}
		read, write := open(t)
		all[name] = fullChannel{read, write, func(t *testing.T, args ...string) *exec.Cmd {
			cmd := sendCommand(t, []string{streamVar + "=3"}, args...)
			cmd.ExtraFiles = []*os.File{write}
			if name == "pipe of another user" {
				const nobody = 65534
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				cmd.Dir = "/"
			}
			return cmd
		}}
	}
	path := filepath.Join(t.TempDir(), "fifo")
	read, write := newFIFO(t, path)
	all["FIFO"] = fullChannel{read, write, func(t *testing.T, args ...string) *exec.Cmd {
		return sendCommand(t, nil, append(args, "--to", path)...)
	}}
	return all
}

// TestSend_full checks that send waits until a full channel has space, or --timeout is over,
// and never changes the flags of the open file that it shares with other processes.
func TestSend_full(t *testing.T) {
	for name, c := range fullChannels(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fill(t, c.write)
			before := statusFlags(t, c.write)
			if before&unix.O_NONBLOCK != 0 {
				t.Fatal("the channel does not block")
			}
			start := time.Now()
			sends(t, c.command(t, "STATE=ready", "--timeout", "0s"), exitFailed, " is still full after 0s; ")
			sends(t, c.command(t, "STATE=ready", "--timeout", "50ms"), exitFailed, " is still full after 50ms; ")
			if took := time.Since(start); took < 50*time.Millisecond {
				t.Errorf("waits only %v", took)
			}
			waiting := c.command(t, "STATE=ready", "MESSAGE=late", "--timeout", "1h")
			testenv.Must(t, waiting.Start())
			asleep := 0
			waitUntil(t, "send waits", func() bool {
				if during := statusFlags(t, c.write); during != before {
					t.Fatalf("the flags of the shared open file are %#o, and were %#o", during, before)
				}
				asleep++
				if !isAsleep(waiting.Process.Pid) {
					asleep = 0
				}
				return asleep == 50
			})
			text := contents(t, c.read)
			testenv.Must(t, waiting.Wait())
			text += contents(t, c.read)
			if got := strings.Trim(text, "\x00"); got != "STATE=ready MESSAGE=late\n" {
				t.Errorf("%q arrives", got)
			}
			if after := statusFlags(t, c.write); after != before {
				t.Errorf("the flags of the shared open file are %#o, and were %#o", after, before)
			}
		})
	}
}

// isAsleep reports whether the main thread of a process sleeps (proc_pid_stat(5)).
func isAsleep(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Contains(string(text), ") S ")
}

// A pipe that cannot be reopened is written to only if it is not full. Another process may
// fill it between poll(2) and write(2). The write then blocks, but send does not.
func TestSend_filled_after_poll(t *testing.T) {
	read, write := newPipe(t)
	fill(t, write)
	c := channel{fd: int(write.Fd()), shared: true}
	if n, err := c.tryWrite([]byte("STATE=ready\n"), time.Now().Add(time.Hour)); n != 0 || err != unix.EAGAIN {
		t.Errorf("%d bytes, %v; want EAGAIN", n, err)
	}
	if n, err := c.writeShared([]byte("STATE=ready\n"), time.Now()); n != 0 || err != unix.EAGAIN {
		t.Errorf("%d bytes, %v; want EAGAIN", n, err)
	}
	read.Close() // ends the write
}

// TestSend_path checks what send does with a path that does not lead to a FIFO. In the state
// directory it follows no symbolic link, because others may be able to create files there.
func TestSend_path(t *testing.T) {
	dir := t.TempDir()
	stranger, _ := newFIFO(t, filepath.Join(dir, "stranger"))
	file := filepath.Join(dir, "file")
	testenv.Must(t, os.WriteFile(file, []byte("kept\n"), 0o600))
	for name, row := range map[string]struct {
		create       func(path string) error
		toWant, want string // with --to; in the state directory
	}{
		"missing":   {func(string) error { return nil }, "; name the FIFO of run --fifo, of ingest --fifo or of the socket unit\n", "; start pika-cloud-lifecycle.socket, start this program with run, or name a FIFO with --to\n"},
		"regular":   {func(path string) error { return os.Link(file, path) }, " is not a FIFO; ", " is not a FIFO; "},
		"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, " is not a FIFO; ", " is not a FIFO; "},
		"socket":    {bindSocket, " is not a FIFO; ", " is not a FIFO; "},
		"link to a FIFO": {func(path string) error { return os.Symlink(filepath.Join(dir, "stranger"), path) },
			"", " is a symbolic link; name the FIFO itself\n"},
		"link to a file":   {func(path string) error { return os.Symlink(file, path) }, " is not a FIFO; ", " is a symbolic link; "},
		"link to a device": {func(path string) error { return os.Symlink("/dev/null", path) }, " is not a FIFO; ", " is a symbolic link; "},
		"link to nothing":  {func(path string) error { return os.Symlink(filepath.Join(dir, "new"), path) }, "no such file or directory; ", " is a symbolic link; "},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), fifoName)
			testenv.Must(t, row.create(path))
			code := exitFailed
			if row.toWant == "" {
				code = exitOK
			}
			sends(t, sendCommand(t, nil, "STATE=ready", "--to", path), code, row.toWant)
			if got := contents(t, stranger); (got != "") != (code == exitOK) {
				t.Errorf("the other FIFO has %q", got)
			}
			sends(t, sendCommand(t, nil, "STATE=ready", "--state-dir", filepath.Dir(path)), exitFailed, row.want)
			if row.toWant != "" || name == "link to a FIFO" {
				cmd := sendCommand(t, []string{fifoVar + "=" + path}, "STATE=ready")
				sends(t, cmd, exitFailed, "the FIFO of PIKA_LIFECYCLE_FIFO")
			}
		})
	}
	if text := testenv.ReadFile(t, file) + contents(t, stranger); text != "kept\n" {
		t.Errorf("another file has %q", text)
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); err == nil {
		t.Error("send has created a file")
	}
	sends(t, sendCommand(t, nil, "STATE=ready", "--to", "/dev/null"), exitFailed, "send: --to /dev/null is not a FIFO; ")
	sends(t, sendCommand(t, nil, "STATE=ready", "--to", file+"/fifo"), exitFailed, "not a directory; ")
	sends(t, sendCommand(t, nil, "STATE=ready", "--state-dir", ""), exitUsage, "--state-dir is empty")
}

// TestSend_path_replaced replaces the FIFO by another file between the checks and the open,
// as another user of the directory can.
func TestSend_path_replaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), fifoName)
	newFIFO(t, path)
	testenv.Must(t, os.WriteFile(path+".other", nil, 0o600))
	exchange := func() error {
		return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+".other", unix.RENAME_EXCHANGE)
	}
	if err := exchange(); err != nil {
		testenv.Missing(t, "RENAME_EXCHANGE in %s: %v", filepath.Dir(path), err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exchange()
			}
		}
	}()
	opened, rejected := 0, 0
	for end := time.Now().Add(waitLimit); (opened < 2000 || rejected < 2000) && time.Now().Before(end); {
		fd, err := openToWrite(path, unix.O_NOFOLLOW)
		switch {
		case err == errNotFIFO:
			rejected++
		case err != nil:
			t.Fatal(err)
		case !dirfs.IsPipe(fd):
			t.Fatal("another file was opened")
		default:
			opened++
			unix.Close(fd)
		}
	}
	close(stop)
	<-stopped
	if opened == 0 || rejected == 0 {
		t.Errorf("the FIFO was opened %d times, and the other file rejected %d times", opened, rejected)
	}
}

func bindSocket(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
}

// TestSend_permission checks the error for a FIFO to which this user may not write. Root
// may write to each.
func TestSend_permission(t *testing.T) {
	dir := testenv.TempDir(t)
	path := filepath.Join(dir, "fifo")
	newFIFO(t, path)
	cmd := sendCommand(t, nil, "STATE=ready", "--to", path)
	if testenv.IsRoot() {
		testenv.OpenToAll(t, dir)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} else {
		testenv.Must(t, os.Chmod(path, 0))
	}
	sends(t, cmd, exitFailed, "permission denied; run send as root, or let this user's group write to it (chgrp and chmod 620, or SocketGroup= and SocketMode= of the socket unit)\n")
}

// Many processes can write to one FIFO at the same time, and no line is mixed with another.
func TestSend_lines_not_mixed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	read, write := newFIFO(t, path)
	const senders = 30 // 120 KB, more than the pipe holds
	done := make(chan error, senders)
	for i := range senders {
		cmd := sendCommand(t, nil, "--to", path, "--timeout", "1h", "STATE=ready", "MESSAGE="+strings.Repeat(string(rune('a'+i%26)), pipeBuf-21))
		go func() { done <- cmd.Run() }()
	}
	lines := make(chan []string)
	go func() {
		text, _ := io.ReadAll(read)
		lines <- linesOf(string(text))
	}()
	for range senders {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	write.Close()
	all := <-lines
	for _, line := range all {
		message, ok := strings.CutPrefix(line, "STATE=ready MESSAGE=")
		if !ok || message != strings.Repeat(message[:1], pipeBuf-21) {
			t.Errorf("a line is mixed with another: %.60q, %d bytes", line, len(line))
		}
	}
	if len(all) != senders {
		t.Errorf("%d lines arrive, want %d", len(all), senders)
	}
}
