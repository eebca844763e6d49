package journal

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// Messages on stderr get a priority if stderr is connected to the journal.
func TestStderr_priorities(t *testing.T) {
	m := newJournal(t, 21)
	conn, err := net.Dial("unix", m.root("/run/systemd/journal/stdout"))
	testenv.Must(t, err)
	defer conn.Close()
	// The identifier, unit and default priority; whether lines begin with a
	// priority; and whether to forward them to syslog, the kernel log and the console.
	fmt.Fprint(conn, Identifier, "\n\n6\n1\n0\n0\n0\n")
	stderr, err := conn.(*net.UnixConn).File()
	testenv.Must(t, err)
	defer stderr.Close()
	var st syscall.Stat_t
	testenv.Must(t, syscall.Fstat(int(stderr.Fd()), &st))
	stream := fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino)
	for _, args := range [][]string{{"ingest", "--state-dir", testenv.TempDir(t)}, {"ingest", "--no-such-flag"}} {
		cmd := localCommand(append([]string{testenv.Program(t)}, args...)...)
		cmd.Stdin, cmd.Env, cmd.Stderr = strings.NewReader("bad\n"), append(os.Environ(), stream), stderr
		if err := cmd.Run(); cmd.ProcessState.ExitCode() < 0 {
			t.Fatal(err)
		}
	}
	cmd := localCommand(testenv.Program(t), "ingest", "--no-such-flag")
	cmd.Stderr = stderr // without JOURNAL_STREAM, as after a redirection in a shell
	_ = cmd.Run()
	var got []storedEntry
	await(t, "4 lines of stderr", func() bool { got = m.entries("_TRANSPORT=stdout"); return len(got) == 4 })
	for i, priority := range []string{"4", "4", "3", "6"} {
		// journald removes the level, such as <4>, from the message.
		if e := got[i]; e["PRIORITY"] != priority || !strings.HasPrefix(e["MESSAGE"], Identifier+": ") {
			t.Errorf("line %d has priority %s, want %s: %q", i+1, e["PRIORITY"], priority, e["MESSAGE"])
		}
	}
}
