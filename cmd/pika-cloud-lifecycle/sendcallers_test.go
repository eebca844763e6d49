package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A sendCaller is a program that runs send once for each text.
type sendCaller struct {
	tool string
	argv []string // before the script
	// script returns the program for these texts. In shells, it has the texts as literals;
	// others read them from standard input, each with a NUL after it.
	script func(texts []string) string
	utf8   bool // it can pass only UTF-8
}

// The commands of a caller. $P is the program. Python and Node close the descriptor of the
// stream, so their send uses the FIFO.
const (
	pythonSender = `
import os, subprocess, sys
for m in sys.stdin.buffer.read().split(b"\0")[:-1]:
    subprocess.run([os.environb[b"P"], b"send", b"KIND=ready", b"MESSAGE=" + m, b"DETAILS.m=" + m], check=True)
`
	nodeSender = `
const {spawnSync} = require("child_process")
for (const m of require("fs").readFileSync(0, "utf8").split("\0").slice(0, -1)) {
	const p = spawnSync(process.env.P, ["send", "KIND=ready", "MESSAGE=" + m, "DETAILS.m=" + m], {stdio: "inherit"})
	if (p.status !== 0) process.exit(1)
}
`
)

func sendCallers() []sendCaller {
	shell := func(argv ...string) sendCaller { return sendCaller{argv[0], argv, shellSender, false} }
	text := func(s string) func([]string) string { return func([]string) string { return s } }
	return []sendCaller{
		shell("dash"), shell("busybox", "ash"), shell("bash", "--norc", "--noprofile"), shell("zsh", "-f"),
		{"python3", []string{"python3", "-I"}, text(pythonSender), false},
		{"node", []string{"node"}, text(nodeSender), true},
	}
}

// shellSender returns a script that assigns each text to a variable and sends the variable.
func shellSender(texts []string) string {
	script := new(strings.Builder)
	for _, m := range texts {
		fmt.Fprintf(script, "m='%s'\n", strings.ReplaceAll(m, "'", `'\''`))
		fmt.Fprintln(script, `"$P" send KIND=ready MESSAGE="$m" DETAILS.m="$m" || exit 1`)
	}
	return script.String()
}

// sendTexts returns how many texts TestSend_every_caller sends. With SWEEP=full they are
// 20,000, and PIKA_SEND_TEXTS can set another number.
func sendTexts(t *testing.T) int {
	text := os.Getenv("PIKA_SEND_TEXTS")
	switch {
	case text != "":
		n, err := strconv.Atoi(text)
		testenv.Must(t, err)
		return n
	case fullLoad():
		return 20_000
	}
	return 360
}

// makeBig5 creates a Big5 locale in a directory, which LOCPATH names. In Big5, the last byte
// of a character may be a backslash, which some shells treat as one.
func makeBig5(t *testing.T, dir string) {
	t.Helper()
	testenv.Tools(t, "localedef", "locale")
	text, err := exec.Command("localedef", "-c", "-i", "zh_TW", "-f", "BIG5", filepath.Join(dir, "zh_TW.BIG5")).CombinedOutput()
	if err != nil {
		testenv.Missing(t, "the source of a Big5 locale (package locales): %v\n%s", err, text)
	}
	if !hasBig5(dir) {
		t.Error("programs do not use the locale")
	}
}

// hasBig5 reports whether programs use the locale of makeBig5.
func hasBig5(dir string) bool {
	charmap := exec.Command("locale", "charmap")
	charmap.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=zh_TW.BIG5", "LOCPATH=" + dir}
	text, _ := charmap.Output()
	return string(text) == "BIG5\n"
}

// TestSend_every_caller sends random texts from shells and languages, in several locales.
// Each text arrives byte for byte, with U+FFFD for each byte that is not UTF-8, and there is
// one event for each text: none of them adds a directive.
func TestSend_every_caller(t *testing.T) {
	testenv.Program(t)
	callers := sendCallers()
	locales := [][]string{{"LC_ALL=C"}, {"LC_ALL=C.UTF-8"}}
	dir := testenv.TempDir(t)
	if t.Run("Big5", func(t *testing.T) { makeBig5(t, dir) }); hasBig5(dir) {
		locales = append(locales, []string{"LC_ALL=zh_TW.BIG5", "LOCPATH=" + dir})
	}
	const most = 2000 // in one run
	rows := len(callers) * len(locales)
	each := (sendTexts(t) + rows - 1) / rows
	var sent, notUTF8 atomic.Int64
	start := time.Now()
	t.Run("run", func(t *testing.T) {
		for i := range rows {
			c, locale := callers[i%len(callers)], locales[i/len(callers)]
			for first := 0; first < each; first += most {
				texts := newTexts(rand.New(rand.NewPCG(uint64(i), uint64(first))), min(most, each-first), c.utf8)
				t.Run(c.tool+" "+locale[0], func(t *testing.T) {
					testenv.Tool(t, c.tool)
					t.Parallel()
					sendAll(t, c, locale, texts)
					for _, text := range texts {
						sent.Add(1)
						if !utf8.ValidString(text) {
							notUTF8.Add(1)
						}
					}
				})
			}
		}
	})
	t.Logf("%d texts, %d of them not UTF-8, in %v", sent.Load(), notUTF8.Load(), time.Since(start).Round(time.Millisecond))
}

// newTexts returns n texts, the first of them from hostileTexts.
func newTexts(rnd *rand.Rand, n int, onlyUTF8 bool) (texts []string) {
	for len(texts) < n {
		text := randomText(rnd)
		if len(texts) < n/3 {
			text = hostileTexts[rnd.IntN(len(hostileTexts))]
		}
		if onlyUTF8 {
			text = strings.ToValidUTF8(text, "\ufffd")
		}
		texts = append(texts, text)
	}
	return texts
}

// sendAll lets a caller send texts to a run, and checks its events.
func sendAll(t *testing.T, c sendCaller, locale, texts []string) {
	dir := testenv.TempDir(t)
	script := filepath.Join(dir, "script")
	testenv.Must(t, os.WriteFile(script, []byte(c.script(texts)), 0o600))
	program := testenv.Program(t)
	args := append([]string{"run", "--no-argv", "--notify=never", "--state-dir", dir, "--fifo", filepath.Join(dir, "fifo"), "--"}, c.argv...)
	cmd := exec.Command(program, append(args, script)...)
	cmd.Env = append(os.Environ(), "P="+program)
	cmd.Env = append(cmd.Env, locale...)
	cmd.Stdin = strings.NewReader(strings.Join(texts, "\x00") + "\x00")
	if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
		t.Fatalf("%v\n%q", err, output)
	}
	if _, err := os.Lstat(filepath.Join(dir, writer.RejectedName)); err == nil {
		t.Error("lines were rejected")
	}
	log := bytes.Split(bytes.TrimSuffix([]byte(testenv.ReadFile(t, filepath.Join(dir, writer.EventsName))), []byte("\n")), []byte("\n"))
	if len(log) != len(texts)+2 {
		t.Fatalf("%d events for %d texts, starting and completed", len(log), len(texts))
	}
	for i, text := range texts {
		var event struct {
			Kind, Message string
			Transition    *bool
			Details       map[string]string
		}
		testenv.Must(t, json.Unmarshal(log[i+1], &event))
		want := recorded(text)
		if event.Kind != "ready" || event.Transition == nil || event.Message != want || len(event.Details) != 1 || event.Details["m"] != want {
			t.Fatalf("%q becomes %s", text, log[i+1])
		}
	}
}
