package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// follows lists which state may follow which. The usual order is requested,
// provisioning, booted, starting, ready, completed; steps may be skipped and
// repeated, and ready may return to starting. A guest may fail, be unreachable,
// stop and be destroyed at any time on the way. Any state may follow
// unreachable. After completed, failed or stopped come stopped, destroyed or
// the start of a run; after destroyed only requested. Stopped and destroyed may
// be repeated.
const follows = `
              requested provisioning booted starting ready completed failed unreachable stopped destroyed
requested         x          x         x       x       x       x       x        x          x        x
provisioning      -          x         x       x       x       x       x        x          x        x
booted            -          -         x       x       x       x       x        x          x        x
starting          -          -         -       x       x       x       x        x          x        x
ready             -          -         -       x       x       x       x        x          x        x
completed         x          x         x       x       -       -       -        -          x        x
failed            x          x         x       x       -       -       -        -          x        x
unreachable       x          x         x       x       x       x       x        x          x        x
stopped           x          x         x       x       -       -       -        -          x        x
destroyed         x          -         -       -       -       -       -        -          -        x
`

func forEachPair(t *testing.T, test func(last, next artifact.State, allowed bool)) {
	rows := strings.Split(strings.TrimSpace(follows), "\n")
	columns := strings.Fields(rows[0])
	pairs := 0
	for _, row := range rows[1:] {
		fields := strings.Fields(row)
		for i, mark := range fields[1:] {
			test(artifact.State(fields[0]), artifact.State(columns[i]), mark == "x")
			pairs++
		}
	}
	if pairs != 100 {
		t.Errorf("the table has %d pairs", pairs)
	}
}

func TestState_follows(t *testing.T) {
	forEachPair(t, func(last, next artifact.State, allowed bool) {
		if next.Follows(last) != allowed {
			t.Errorf("%s may follow %s: %v", next, last, !allowed)
		}
	})
}

func TestPolicy(t *testing.T) {
	forEachPair(t, func(last, next artifact.State, allowed bool) {
		for _, policy := range []Policy{Warn, Enforce, Off} {
			g := newGuest(t)
			g.Transitions = policy
			g.feed(fmt.Sprintf("TYPE=status STATE=%s\nSTATE=%s\n", last, next))
			warning := ""
			switch {
			case allowed || policy == Off:
			case policy == Warn:
				warning = fmt.Sprintf("line 2: %s after %s is unusual; accepted", next, last)
			default:
				warning = fmt.Sprintf("line 2, column 7: %s may not follow %s; expected one of %s", next, last, followers(last))
			}
			state := next
			if !allowed && policy == Enforce {
				state = last
			}
			what := fmt.Sprintf("%s after %s under %v", next, last, policy)
			check(t, what, g.warnings(), warning)
			if status := g.read("status.json"); !strings.Contains(status, fmt.Sprintf(`"state": %q`, state)) {
				t.Errorf("%s: %s", what, status)
			}
		}
	})
}

// The policy checks transitions only. A status changes the state that the next
// transition is checked against; an event does not.
func TestPolicy_status_and_event(t *testing.T) {
	g := newGuest(t)
	g.Transitions = Enforce
	sum := g.feed("STATE=ready\nTYPE=status STATE=requested\nKIND=destroyed\nSTATE=requested\n")
	if sum.Rejected != 0 {
		t.Error(g.warnings())
	}
}

func TestPolicy_first_state(t *testing.T) {
	status := func(boot string) string {
		return `{"schema_version": 1, "state": "ready", "updated_at": "2026-03-24T00:00:00.000Z", "message": "m"` + boot + "}\n"
	}
	for _, c := range []struct {
		what, status, boot string
		rejected           uint64
	}{
		{"this boot", status(`, "boot_id": "` + testBoot + `"`), testBoot, 1},
		{"another boot", status(`, "boot_id": "other"`), testBoot, 0},
		{"a status without boot", status(""), testBoot, 0},
		{"no boot known", status(""), "", 0},
		{"no boot known but the status's", status(`, "boot_id": "` + testBoot + `"`), "", 0},
		{"no status", "", testBoot, 0},
		{"a status of garbage", "{", testBoot, 0},
		{"a status that is another's", strings.Replace(status(`, "boot_id": "`+testBoot+`"`), "ready", "rebooting", 1), testBoot, 0},
	} {
		g := newGuest(t)
		g.Transitions, g.BootID = Enforce, c.boot
		if c.status != "" {
			g.write("status.json", c.status)
		}
		if sum := g.feed("STATE=booted\n"); sum.Rejected != c.rejected {
			t.Errorf("%s: %d rejected", c.what, sum.Rejected)
		}
	}
}

func TestPolicy_warning_limit(t *testing.T) {
	g := newGuest(t)
	g.feed(strings.Repeat("STATE=ready\nSTATE=booted\n", 150))
	if n := len(g.warned); n != maxWarnings {
		t.Errorf("%d warnings", n)
	}
}

func TestParsePolicy(t *testing.T) {
	for _, word := range []string{"warn", "enforce", "off"} {
		if p, ok := ParsePolicy(word); !ok || p.String() != word {
			t.Errorf("%s: %v %v", word, p, ok)
		}
	}
	for _, word := range []string{"", "Warn", "on", "enforced"} {
		if _, ok := ParsePolicy(word); ok {
			t.Errorf("%q is a policy", word)
		}
	}
}

// A directive inside a value changes no state, but is reported, at most maxWarnings times
// with the unusual transitions. Columns count a byte order mark.
func TestJoined(t *testing.T) {
	g := newGuest(t)
	g.feed("\ufeffSTATE=starting MESSAGE=STATE=ready\nSTATE=starting MESSAGE='STATE=ready'\n")
	const joined = `line 1, column 27: the directive "STATE=ready" is inside a value and has no effect; ` +
		`if printf has no %q, as in dash and busybox, it has joined two lines: use "pika-cloud-lifecycle send" or docs/directive.sh`
	check(t, "warnings", g.warnings(), joined)
	if status := g.read("status.json"); !strings.Contains(status, `"state": "starting"`) {
		t.Error(status)
	}

	g = newGuest(t)
	g.feed(strings.Repeat("KIND=ready MESSAGE=STATE=ready\n", maxWarnings+10))
	if n := strings.Count(g.warnings(), "inside a value"); n != maxWarnings {
		t.Errorf("%d warnings; expected %d", n, maxWarnings)
	}
}
