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

// IncusSocket returns the path of the socket that the host gives an instance
// of Incus, or of LXD; "" where there is none.
func IncusSocket() string {
	for _, path := range []string{"/dev/incus/sock", "/dev/lxd/sock"} {
		if unix.Access(path, unix.W_OK) == nil {
			return path
		}
	}
	return ""
}

// The states that an instance may give itself.
const (
	incusReady   = "Ready"
	incusStarted = "Started"
)

// Incus returns a Notifier of the host of the instance, through the socket at
// path. It learns when the guest is ready and when it is no more, of which it
// makes events that whoever manages instances can wait for.
func Incus(path string) *Notifier {
	i := &incus{path: path}
	return start("incus", i.tell)
}

type incus struct {
	path string
	told string // the last state; empty if none is known
}

func (i *incus) tell(n news) error {
	if n.ready || n.state == artifact.Ready {
		if err := i.patch(incusReady); err != nil {
			return err
		}
	}
	if n.state == artifact.Ready {
		return nil
	}
	return i.patch(incusStarted)
}

// patch gives the instance a state, unless it has it. The request is written
// out by hand: one fixed line each way needs no HTTP client, which would be as
// large as the rest of the program.
func (i *incus) patch(state string) error {
	if i.told == state {
		return nil
	}
	conn, err := net.DialTimeout("unix", i.path, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	body := `{"state":"` + state + `"}`
	_, err = fmt.Fprintf(conn, "PATCH /1.0 HTTP/1.1\r\nHost: incus\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	if err != nil {
		return err
	}
	answer, err := bufio.NewReaderSize(conn, 256).ReadSlice('\n')
	if err != nil {
		return err
	}
	if _, code, _ := strings.Cut(string(answer), " "); !strings.HasPrefix(code, "2") {
		return fmt.Errorf("%s answers %q to state %s", i.path, strings.TrimSpace(string(answer)), state)
	}
	i.told = state
	return nil
}
