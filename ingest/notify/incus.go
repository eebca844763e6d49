package notify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// IncusSocket returns the path of the socket that connects an Incus or LXD instance
// to its host, or "" if there is none.
func IncusSocket() string {
	for _, path := range []string{"/dev/incus/sock", "/dev/lxd/sock"} {
		if unix.Access(path, unix.W_OK) == nil {
			return path
		}
	}
	return ""
}

// The states that an instance can set.
const (
	incusReady   = "Ready"
	incusStarted = "Started"
)

// Incus returns a Notifier of the host of this instance. path is the socket of the
// host. The Notifier sets the state of the instance to Ready while the guest is
// ready, and to Started otherwise. The host emits an event for each change, which
// programs that manage the instance can wait for.
func Incus(path string) *Notifier {
	i := &incus{path: path}
	return start("incus", i.send, nil)
}

// errNotSupported is the error of a host that does not know states of instances.
var errNotSupported = errors.New("the host ignores states of instances, because it has no API extension instance_ready_state; " +
	"update it to LXD 5.5 or newer, or to Incus, or use --notify without incus")

type incus struct {
	path   string
	state  string // the last state that the host accepted; "" if none
	answer stateSupport
}

// stateSupport is whether the host knows states of instances.
type stateSupport int

const (
	unknown stateSupport = iota // the host has not answered yet
	supported
	notSupported
)

// send sends a notification. If the host does not know states of instances, send
// returns an error once, and then sends nothing.
func (i *incus) send(n notification) error {
	if i.answer == unknown {
		err := i.ask()
		if err != nil {
			return err
		}
	}
	if i.answer == notSupported {
		return nil
	}
	if n.wasReady || n.state == artifact.Ready {
		err := i.setState(incusReady)
		if err != nil {
			return err
		}
	}
	if n.state == artifact.Ready {
		return nil
	}
	return i.setState(incusStarted)
}

// ask asks the host for the state of the instance, and so whether it has the API
// extension instance_ready_state: LXD 5.5 and newer, and Incus. Older hosts do not check
// the method, and answer 200 to each PATCH request. The socket has no list of the
// extensions. A host without this one returns no state (LXD 5.0.0, 5.0.1), or an empty
// one (LXD 5.0.2 to 5.0.9): lxd/devlxd.go and shared/api/devlxd.go of LXD.
func (i *incus) ask() error {
	body, err := i.request("GET", "")
	if err != nil {
		return err
	}
	if gjson.ValidBytes(body) && gjson.GetBytes(body, "state").String() != "" {
		i.answer = supported
		return nil
	}
	i.answer = notSupported
	return fmt.Errorf("%s: %w", i.path, errNotSupported)
}

// setState sets the state of the instance, unless it is set already.
func (i *incus) setState(state string) error {
	if i.state == state {
		return nil
	}
	_, err := i.request("PATCH", `{"state":"`+state+`"}`)
	if err != nil {
		return err
	}
	i.state = state
	return nil
}

// request sends a request for /1.0 and returns the body of the response. It does not use
// net/http, which would double the size of the program. With HTTP/1.0 the body is not in
// chunks, and ends with the connection.
func (i *incus) request(method, body string) ([]byte, error) {
	conn, err := net.DialTimeout("unix", i.path, timeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(timeout))
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "%s /1.0 HTTP/1.0\r\nHost: incus\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", method, len(body), body)
	if err != nil {
		return nil, err
	}
	const limit = 64 << 10 // an answer has about 100 bytes, and 10 KiB with many storage drivers (LXD 6)
	response, err := io.ReadAll(io.LimitReader(conn, limit))
	if err != nil {
		return nil, err
	}
	header, answer, _ := bytes.Cut(response, []byte("\r\n\r\n"))
	statusLine, _, _ := strings.Cut(string(header), "\r\n")
	_, code, _ := strings.Cut(statusLine, " ")
	switch {
	case strings.HasPrefix(code, "2"):
		return answer, nil
	case strings.HasPrefix(code, "401 "):
		return nil, fmt.Errorf("%s: the host answered %q to %s /1.0; it accepts only root in the guest", i.path, statusLine, method)
	}
	return nil, fmt.Errorf("%s: the host answered %q to %s /1.0", i.path, statusLine, method)
}
