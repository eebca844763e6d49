package notify

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"time"

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

type incus struct {
	path  string
	state string // the last state that the host accepted; "" if none
}

func (i *incus) send(n notification) error {
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

// setState sets the state of the instance, unless it is set already. It does not
// use net/http, which would double the size of the program: the request has a fixed
// form, and only the status line of the response matters.
func (i *incus) setState(state string) error {
	if i.state == state {
		return nil
	}
	conn, err := net.DialTimeout("unix", i.path, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(timeout))
	if err != nil {
		return err
	}
	body := `{"state":"` + state + `"}`
	_, err = fmt.Fprintf(conn, "PATCH /1.0 HTTP/1.1\r\nHost: incus\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	if err != nil {
		return err
	}
	statusLine, err := bufio.NewReaderSize(conn, 256).ReadSlice('\n')
	if err != nil {
		return err
	}
	_, code, _ := strings.Cut(string(statusLine), " ")
	if !strings.HasPrefix(code, "2") {
		return fmt.Errorf("%s: the host answered %q to the state %s", i.path, strings.TrimSpace(string(statusLine)), state)
	}
	i.state = state
	return nil
}
