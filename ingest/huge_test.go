package ingest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// hugeLine returns a directive whose message or details have 6 MiB in normal form, and
// what they contain.
func hugeLine(start, key, char string) (line, text string) {
	text = strings.Repeat(char, DefaultMaxLine-100)
	return start + " " + key + "=" + text + "\n", text
}

// contentOf returns the message of an artifact, and its member x of the details.
func contentOf(t testing.TB, text string) (message, x string) {
	t.Helper()
	var v struct {
		Message string
		Details struct{ X string }
	}
	testenv.Must(t, json.Unmarshal([]byte(text), &v))
	return v.Message, v.Details.X
}

// checkHuge checks the content of the status, the result and the event of a seq.
func (g *guest) checkHuge(message, x string, event int) {
	g.t.Helper()
	events := strings.SplitAfter(g.read("events.jsonl"), "\n")
	for what, text := range map[string]string{"status": g.read("status.json"), "result": g.read("result.json"), "event": events[event]} {
		gotMessage, gotX := contentOf(g.t, text)
		if gotMessage != message || gotX != x {
			g.t.Errorf("the %s has a message of %d bytes and details of %d, want %d and %d, or other content: %s", what, len(gotMessage), len(gotX), len(message), len(x), clip(text))
		}
	}
}

// A huge result, whose memory is not copied, reaches all files unchanged, whatever comes
// before and after it, and also if a file can be written only later.
func TestCommit_huge_values(t *testing.T) {
	message, messageText := hugeLine("STATE=failed", "MESSAGE", "\x01")
	details, detailsText := hugeLine("STATE=failed MESSAGE=m", "DETAILS.x", "\x02")
	before, after := strings.Repeat("KIND=ready MESSAGE=before\n", 1000), strings.Repeat("KIND=ready MESSAGE=after\n", 100_000)
	t.Run("message", func(t *testing.T) {
		g := newGuest(t)
		g.feed(before + message + after)
		g.checkHuge(messageText, "", 1000)
	})
	t.Run("details", func(t *testing.T) {
		g := newGuest(t)
		g.feed(before + details + after)
		g.checkHuge("m", detailsText, 1000)
	})
	t.Run("runs", func(t *testing.T) {
		g := newGuest(t)
		g.ManyRuns = true
		g.feed(message + "STATE=starting\n" + details + "STATE=starting\n" + message + after)
		g.checkHuge(messageText, "", 4)
	})
	t.Run("status at the end", func(t *testing.T) {
		g := newGuest(t)
		g.feed(strings.Replace(message, "STATE=failed", "TYPE=status STATE=ready", 1))
		if got, _ := contentOf(t, g.read("status.json")); got != messageText {
			t.Errorf("the status is %s", clip(got))
		}
	})
	for _, name := range commitFiles {
		t.Run(name+" written later", func(t *testing.T) {
			w, _, free := openWithFault(t, name, 0)
			w.print(before + "bad\n" + message)
			w.waitForWarning(retryText)
			w.print(after[:1000])
			free()
			w.close()
			w.checkHuge(messageText, "", 1000)
		})
	}
}
