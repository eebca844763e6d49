package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A daemon is a package of a distribution, which is run as it is.
type daemon struct {
	name    string
	ready   string // of run --ready; empty if the daemon itself reports nothing
	program string
	start   func(*daemonTest) (argv []string)
	answers func(*daemonTest) error // one connection, without a retry
}

// A daemonTest is one start of a daemon, with its directory, port and message.
type daemonTest struct {
	*testing.T
	dir     string
	port    int
	message string // of the state ready
}

// Each daemon answers at the moment when it is recorded as ready, and nothing of it is left
// after a SIGTERM.
func TestDaemons(t *testing.T) {
	for _, d := range []daemon{
		{"unbound", "notify", "unbound", startUnbound, resolve},
		{"haproxy", "notify", "haproxy", startHaproxy, getHello},
		{"mosquitto", "notify", "mosquitto", startMosquitto, connectMQTT},
		{"rsyslog", "notify", "rsyslogd", startRsyslog, logLine},
		{"redis", "notify", "redis-server", startRedis, ping},
		{"postgresql", "notify", "postgres", startPostgres, query},
		{"dbus-daemon", "fd:5", "dbus-daemon", startDBus, authenticate},
		{"Xvfb", "fd:6", "Xvfb", startXvfb, openDisplay},
		{"nginx", "", "nginx", startNginx, getHello},
	} {
		t.Run(d.name, func(t *testing.T) { d.test(t) })
	}
}

func (d daemon) test(t *testing.T) {
	dt := &daemonTest{T: t, dir: t.TempDir(), port: freePort(t)}
	if d.name == "postgresql" && os.Getenv("SWEEP") == "" && !testenv.NoSkip() {
		t.Skip("initdb takes seconds; set SWEEP=full to run it")
	}
	d.program = daemonProgram(t, d.program)
	argv := append([]string{d.program}, d.start(dt)...)
	if d.name == "postgresql" {
		argv = dt.asOrdinaryUser(argv)
	}
	if d.name == "nginx" {
		argv = dt.afterProbe(argv)
	}
	args := []string{"run", "--", "env", "DAEMON_DIR=" + dt.dir}
	if d.ready != "" {
		args = []string{"run", "--ready", d.ready, "--", "env", "DAEMON_DIR=" + dt.dir}
	}
	begin := time.Now()
	p := launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Dir = dt.dir }, append(args, argv...)...)
	waiter := testCommand("wait", "--state-dir", p.dir, "--for", "ready", "--timeout", "60s")
	out, err := waiter.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
		p.signal(syscall.SIGTERM)
		t.Fatal(p.exits(0))
	}
	took := time.Since(begin)
	var status struct{ State, Message string }
	testenv.Must(t, json.Unmarshal([]byte(p.file("status.json")), &status))
	dt.message = status.Message
	answer := d.answers(dt)
	p.signal(syscall.SIGTERM)
	stderr := p.exits(0)
	if answer != nil {
		t.Errorf("ready, but it does not answer: %v\n%s", answer, stderr)
	}
	t.Logf("ready after %d ms: %q", took.Milliseconds(), status.Message)
	p.contains("result.json", `"status": "completed"`)
	p.hasEvents(3)
	if left := dt.processes(); len(left) > 0 {
		t.Errorf("left running: %q\n%s", left, stderr)
	}
	if d.answers(dt) == nil {
		t.Error("it still answers")
	}
}

// daemonProgram returns the path of a daemon, which may be in a directory that is only in
// the PATH of root, or in that of a version.
func daemonProgram(t *testing.T, name string) string {
	t.Helper()
	for _, pattern := range []string{"/usr/sbin/" + name, "/usr/lib/postgresql/*/bin/" + name} {
		found, err := filepath.Glob(pattern)
		testenv.Must(t, err)
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return testenv.Tool(t, name)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	testenv.Must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// processes returns the processes that work in the directory of the daemon, or have it in
// their environment, which some daemons overwrite.
func (dt *daemonTest) processes() (left []string) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		environ, _ := os.ReadFile(name + "/environ")
		cwd, _ := os.Readlink(name + "/cwd")
		if strings.Contains(string(environ), "DAEMON_DIR="+dt.dir+"\x00") || strings.HasPrefix(cwd+"/", dt.dir+"/") {
			line, _ := os.ReadFile(name + "/cmdline")
			left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return left
}

// config writes a file to the directory of the daemon, and returns its path. It replaces
// DIR and PORT.
func (dt *daemonTest) config(text string) string {
	dt.Helper()
	path := filepath.Join(dt.dir, "config")
	text = strings.NewReplacer("DIR", dt.dir, "PORT", strconv.Itoa(dt.port)).Replace(text)
	testenv.Must(dt, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// dial connects to the port.
func (dt *daemonTest) dial() (net.Conn, error) {
	return dt.dialTo("tcp", fmt.Sprintf("127.0.0.1:%d", dt.port))
}

func (dt *daemonTest) dialTo(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(waitLimit))
	}
	return c, err
}

// exchange sends a request, and returns an error if the answer does not contain want.
func exchange(c net.Conn, err error, request, want string) error {
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	var got []byte
	for r := bufio.NewReader(c); !strings.Contains(string(got), want); {
		b, err := r.ReadByte()
		if err != nil {
			return fmt.Errorf("the answer is %q, without %q: %w", got, want, err)
		}
		got = append(got, b)
	}
	return nil
}

func startUnbound(dt *daemonTest) []string {
	return []string{"-d", "-p", "-c", dt.config(`
server:
	directory: "DIR"
	chroot: ""
	username: ""
	use-syslog: no
	interface: 127.0.0.1@PORT
	local-data: "guest.example. A 192.0.2.1"
remote-control:
	control-enable: no
`)}
}

func resolve(dt *daemonTest) error {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return dt.dial() }}
	ctx, cancel := context.WithTimeout(dt.Context(), waitLimit)
	defer cancel()
	got, err := r.LookupHost(ctx, "guest.example.")
	if err == nil && fmt.Sprint(got) != "[192.0.2.1]" {
		err = fmt.Errorf("the address is %v", got)
	}
	return err
}

func startHaproxy(dt *daemonTest) []string {
	return []string{"-Ws", "-f", dt.config(`
defaults
	timeout client 5s
	timeout server 5s
	timeout connect 5s
frontend guest
	mode http
	bind 127.0.0.1:PORT
	http-request return status 200 content-type text/plain string hello
`)}
}

func getHello(dt *daemonTest) error {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitLimit}
	answer, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/", dt.port))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && string(body) != "hello" {
		err = fmt.Errorf("%s: %q", answer.Status, body)
	}
	return err
}

func startMosquitto(dt *daemonTest) []string {
	return []string{"-c", dt.config("listener PORT 127.0.0.1\nallow_anonymous true\n")}
}

// connectMQTT connects to an MQTT 3.1.1 server (OASIS MQTT 3.1.1, sections 3.1 and 3.2).
func connectMQTT(dt *daemonTest) error {
	c, err := dt.dial()
	return exchange(c, err, "\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc", "\x20\x02\x00\x00")
}

func startRsyslog(dt *daemonTest) []string {
	return []string{"-n", "-iNONE", "-f", dt.config(`
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="PORT")
action(type="omfile" file="DIR/log")
`)}
}

// logLine sends a message, and waits until rsyslog has written it.
func logLine(dt *daemonTest) error {
	c, err := dt.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, "<13>Jan  1 00:00:00 guest test: hello"); err != nil {
		return err
	}
	for until := time.Now().Add(waitLimit); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if text, _ := os.ReadFile(filepath.Join(dt.dir, "log")); strings.Contains(string(text), "hello") {
			return nil
		}
	}
	return fmt.Errorf("the message is not in the log")
}

func startRedis(dt *daemonTest) []string {
	return []string{dt.config("port PORT\nbind 127.0.0.1\ndir DIR\nsave \"\"\n"), "--supervised", "systemd"}
}

func ping(dt *daemonTest) error {
	c, err := dt.dial()
	return exchange(c, err, "PING\r\n", "+PONG\r\n")
}

// asOrdinaryUser returns the command that runs argv as the user nobody if the test is root:
// PostgreSQL does not run as root.
func (dt *daemonTest) asOrdinaryUser(argv []string) []string {
	dt.Helper()
	if os.Getuid() != 0 {
		return argv
	}
	testenv.Must(dt, os.Chown(dt.dir, 65534, 65534))
	return append([]string{testenv.Tool(dt, "setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups"}, argv...)
}

func startPostgres(dt *daemonTest) []string {
	if os.Getuid() == 0 {
		testenv.OpenToAll(dt, filepath.Dir(filepath.Dir(dt.dir)))
		testenv.Must(dt, os.Chmod(filepath.Dir(dt.dir), 0o755))
	}
	initdb := dt.asOrdinaryUser([]string{daemonProgram(dt.T, "initdb"), "-D", filepath.Join(dt.dir, "data"), "-A", "trust", "-U", "guest", "--no-sync", "--no-locale"})
	cmd := limitedCommand(initdb[0], initdb[1:]...)
	cmd.Dir = dt.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		dt.Fatalf("%q: %v\n%s", initdb, err, out)
	}
	return []string{"-D", filepath.Join(dt.dir, "data"), "-F", "-k", dt.dir, "-h", "127.0.0.1", "-p", strconv.Itoa(dt.port)}
}

// query logs in, and adds two numbers (PostgreSQL documentation, "Message Formats").
func query(dt *daemonTest) error {
	c, err := dt.dial()
	const login = "\x00\x00\x00\x26\x00\x03\x00\x00user\x00guest\x00database\x00postgres\x00\x00"
	const sum = "Q\x00\x00\x00\x10SELECT 40+2\x00"
	return exchange(c, err, login+sum, "\x00\x0242")
}

func startDBus(dt *daemonTest) []string {
	return []string{"--session", "--nofork", "--nosyslog", "--address=unix:path=" + filepath.Join(dt.dir, "bus"), "--print-address=5"}
}

// authenticate connects to the address in the message (D-Bus specification, "Authentication
// Protocol").
func authenticate(dt *daemonTest) error {
	_, address, ok := strings.Cut(dt.message, "unix:path=")
	if !ok {
		return fmt.Errorf("the message %q has no address", dt.message)
	}
	path, _, _ := strings.Cut(address, ",")
	c, err := dt.dialTo("unix", path)
	return exchange(c, err, fmt.Sprintf("\x00AUTH EXTERNAL %x\r\n", strconv.Itoa(os.Getuid())), "OK ")
}

// startXvfb also cleans up: Xvfb creates the directory of its socket, and keeps it.
func startXvfb(dt *daemonTest) []string {
	const sockets = "/tmp/.X11-unix"
	_, err := os.Lstat(sockets)
	if err != nil {
		dt.Cleanup(func() { _ = os.Remove(sockets) })
	}
	return []string{"-displayfd", "6", "-nolisten", "tcp", "-screen", "0", "64x64x8"}
}

// openDisplay connects to the display in the message (X11 protocol, "Connection Setup").
func openDisplay(dt *daemonTest) error {
	words := strings.Fields(dt.message)
	if len(words) == 0 {
		return fmt.Errorf("no display in the message")
	}
	c, err := dt.dialTo("unix", "/tmp/.X11-unix/X"+words[len(words)-1])
	return exchange(c, err, "l\x00\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x0b\x00\x00\x00")
}

func startNginx(dt *daemonTest) []string {
	return []string{"-p", dt.dir, "-e", "stderr", "-c", dt.config(`
daemon off;
pid nginx.pid;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen 127.0.0.1:PORT;
		location / { return 200 hello; }
	}
}
`)}
}

// afterProbe returns the script that runs a daemon that does not report by itself: a probe
// in the background calls send, and the daemon replaces the shell.
func (dt *daemonTest) afterProbe(argv []string) []string {
	const script = `
(until curl -fso /dev/null "$0"; do sleep 0.1; done; pika-cloud-lifecycle send STATE=ready) &
exec "$@"`
	testenv.Tool(dt, "curl")
	return append([]string{"sh", "-c", script, fmt.Sprintf("http://127.0.0.1:%d/", dt.port)}, argv...)
}
