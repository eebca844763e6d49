// Command race measures pika-cloud-lifecycle, its alternatives, and a C program
// that only makes the same system calls. It runs whole processes in turn, so that
// a machine that slows down slows all of them, and does not count the first round. The
// order changes from round to round: a process that follows a large one starts with cold
// caches.
// Each time is the median of the rounds, and each ratio the median of their ratios.
//
//	race DIR     DIR contains what testdata/bench/run has built
//
// It prints tables in Markdown. docs/performance.md summarises one run.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A contender is a program in a race.
type contender struct {
	name string
	argv []string // DIR is replaced by its directory
	feed []string // the command whose output is its standard input; none if empty
}

// A lap is the duration of one run of a contender.
type lap struct{ wall, cpu float64 } // seconds

// built is the directory of the programs.
var built string

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: race DIR")
		os.Exit(2)
	}
	built = os.Args[1]
	tmpfs, err := os.MkdirTemp("/dev/shm", "race-")
	check(err)
	defer os.RemoveAll(tmpfs)
	disk := filepath.Join(built, "disk")
	machine()
	for _, place := range []struct{ name, dir string }{{"tmpfs", tmpfs}, {"disk", disk}} {
		fmt.Printf("\n## On %s\n", place.name)
		oneShots(place.dir)
		loops(place.dir)
		floods(place.dir)
	}
	fmt.Printf("\n## Latency, prints, growth, memory\n")
	latencies(tmpfs)
	prints(tmpfs)
	growth(tmpfs)
	memory(tmpfs)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "race:", err)
		os.Exit(1)
	}
}

func tool(name string) string { return filepath.Join(built, name) }

func ours(args ...string) []string { return append([]string{tool("pika-cloud-lifecycle")}, args...) }

// machine prints the machine, the date and the size of the binary.
func machine() {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	check(err)
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	check(err)
	model := "unknown processor"
	for line := range strings.Lines(string(cpu)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	binary, err := os.Stat(tool("pika-cloud-lifecycle"))
	check(err)
	fmt.Printf("%s, %d cores, Linux %s, %s. The binary has %.2f MiB.\n", model, strings.Count("\n"+string(cpu), "\nprocessor"),
		strings.TrimSpace(string(kernel)), time.Now().UTC().Format(time.DateOnly), float64(binary.Size())/(1<<20))
}

// run runs a contender on dir, without emptying it.
func (c *contender) run(dir string) lap {
	cmd := exec.Command(c.argv[0], inside(dir, c.argv[1:])...)
	cmd.Stderr = os.Stderr
	begin := time.Now()
	wait := func() error { return nil }
	if len(c.feed) > 0 {
		feed := exec.Command(c.feed[0], c.feed[1:]...)
		r, w, err := os.Pipe()
		check(err)
		feed.Stdout, cmd.Stdin, wait = w, r, feed.Wait
		check(feed.Start())
		w.Close()
		defer r.Close()
	}
	check(cmd.Run())
	check(wait())
	used := cmd.ProcessState
	return lap{time.Since(begin).Seconds(), (used.UserTime() + used.SystemTime()).Seconds()}
}

func inside(dir string, args []string) (replaced []string) {
	for _, arg := range args {
		replaced = append(replaced, strings.ReplaceAll(arg, "DIR", dir))
	}
	return replaced
}

// race runs all contenders in turn, each in an empty directory, and prints a
// table that compares the first with the others.
func race(title, dir string, rounds int, all ...contender) {
	laps := make([][]lap, len(all))
	for round := range rounds + 1 {
		for _, i := range rand.Perm(len(all)) {
			run := filepath.Join(dir, "run")
			check(os.RemoveAll(run))
			check(os.MkdirAll(run, 0o755))
			if l := all[i].run(run); round > 0 {
				laps[i] = append(laps[i], l)
			}
			check(os.RemoveAll(run))
		}
	}
	fmt.Printf("\n%s, %d rounds:\n\n| | median | minimum to maximum | CPU time | ratio of the first to this |\n|---|---|---|---|---|\n", title, rounds)
	for i, c := range all {
		walls := each(laps[i], func(l lap) float64 { return l.wall })
		var ratios []float64
		for round, l := range laps[i] {
			ratios = append(ratios, laps[0][round].wall/l.wall)
		}
		fmt.Printf("| %s | %s | %s to %s | %s | %s |\n", c.name, seconds(quantile(walls, 50)), seconds(slices.Min(walls)),
			seconds(slices.Max(walls)), seconds(quantile(each(laps[i], func(l lap) float64 { return l.cpu }), 50)), share(quantile(ratios, 50)))
	}
}

func each[T any](all []T, f func(T) float64) (values []float64) {
	for _, v := range all {
		values = append(values, f(v))
	}
	return values
}

func quantile(values []float64, percent int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func share(ratio float64) string {
	if ratio < 0.1 {
		return fmt.Sprintf("1/%.0f", 1/ratio)
	}
	return fmt.Sprintf("%.2f", ratio)
}

// seconds shows a time with three digits.
func seconds(s float64) string {
	unit, value := "s", s
	switch {
	case s < 1e-3:
		unit, value = "µs", s*1e6
	case s < 1:
		unit, value = "ms", s*1e3
	}
	return strconv.FormatFloat(value, 'f', max(0, 3-len(strconv.Itoa(int(value)))), 64) + " " + unit
}

func oneShots(dir string) {
	race("One event, one process", dir, 60,
		contender{name: "pika-cloud-lifecycle event", argv: ours("event", "--state-dir", "DIR", "--kind", "ready", "--message", "up")},
		contender{name: "Go hello world", argv: []string{tool("hello")}},
		contender{name: "C, the same system calls", argv: []string{tool("limit"), "event", "DIR"}},
		contender{name: "Python, a stand-in for the old command", argv: []string{"python3", tool("python_writer.py"), "event", "DIR/events.jsonl", "up"}})
}

func loops(dir string) {
	loop := func(body string) []string {
		return []string{"bash", "-c", "for ((i = 0; i < 200; i++)); do " + body + "; done"}
	}
	race("200 events from a bash loop", dir, 3,
		contender{name: "printed to one ingest", argv: []string{"bash", "-c", `exec 3> >(exec "$0" ingest --state-dir DIR); pid=$!
			for ((i = 0; i < 200; i++)); do printf 'STATE=ready MESSAGE=%q\n' up >&3; done; exec 3>&-; wait $pid`, tool("pika-cloud-lifecycle")}},
		contender{name: "an event process each", argv: loop(tool("pika-cloud-lifecycle") + " event --state-dir DIR --kind ready --message up")},
		contender{name: "a C process each", argv: loop(tool("limit") + " event DIR")},
		contender{name: "a Python process each", argv: loop("python3 " + tool("python_writer.py") + " event DIR/events.jsonl up")})
}

func floods(dir string) {
	for _, f := range []struct {
		count, size, rounds int
		all                 bool // includes the slow contenders
	}{{1, 184, 20, true}, {1000, 184, 20, true}, {1_000_000, 184, 5, true},
		{1_000_000, 100, 3, false}, {200_000, 1000, 3, false}, {2000, 100_000, 3, false}} {
		json := []string{"cat", input(dir, f.count, f.size, false)}
		words := []string{"cat", input(dir, f.count, f.size, true)}
		// No contender rotates its log, because that would be another comparison.
		ingest := ours("ingest", "--max-events", "0", "--state-dir", "DIR")
		all := []contender{
			{"pika-cloud-lifecycle, JSON", ingest, json},
			{"pika-cloud-lifecycle, KEY=value", ingest, words},
			{"C, the same system calls", []string{tool("limit"), "ingest", "DIR"}, json},
			{"s6-log", []string{"s6-log", "t", "s1000000000", "n2", "DIR"}, json},
			{"svlogd", []string{"sh", "-c", "printf 's1000000000\n' >DIR/config; exec svlogd -tt -b 1048576 DIR"}, json},
			{"multilog", []string{"multilog", "t", "s16777215", "n100", "DIR"}, json},
			{"cat > file", []string{"sh", "-c", "exec cat >DIR/file"}, json},
		}
		if f.all {
			all = append(all, contender{"jq -c .", []string{"sh", "-c", "exec jq -c . >DIR/file"}, json},
				contender{"Python, json only", []string{"python3", "-c", `import json, sys
with open(sys.argv[1], "w") as f:
    for line in sys.stdin: f.write(json.dumps(json.loads(line)) + "\n")`, "DIR/file"}, json})
		}
		race(fmt.Sprintf("%d directives of %d bytes through a pipe", f.count, f.size), dir, f.rounds, all...)
		check(os.Remove(json[1]))
		check(os.Remove(words[1]))
	}
}

// minDetails is the size of directives, in bytes, from which they have details.
const minDetails = 184

// input creates a file of directives with the same content in either syntax. size
// includes the newline.
func input(dir string, count, size int, words bool) string {
	head, details, tail := `{"state":"ready","message":"agent is ready`, `","details":{"step":"boot","elapsed_ms":1234.5,"host":"a1"}}`, `"}`
	if words {
		head, details, tail = `STATE=ready MESSAGE='agent is ready`, `' DETAILS.step=boot DETAILS.elapsed_ms:=1234.5 DETAILS.host=a1`, `'`
	}
	if size >= minDetails {
		tail = details
	}
	line := head + strings.Repeat(".", size-len(head)-len(tail)-1) + tail + "\n"
	check(os.MkdirAll(dir, 0o755))
	f, err := os.Create(filepath.Join(dir, fmt.Sprint("input-", count, "-", size, "-", words)))
	check(err)
	block := strings.Repeat(line, min(count, 1000))
	for range count / min(count, 1000) {
		_, err := f.WriteString(block)
		check(err)
	}
	check(f.Close())
	return f.Name()
}

// latencies measures the time from the write(2) of a single line until a reader
// that polls without a pause sees the event in the log.
func latencies(dir string) {
	all := []contender{
		{name: "pika-cloud-lifecycle", argv: ours("ingest", "--state-dir", "DIR")},
		{name: "C, the same system calls", argv: []string{tool("limit"), "ingest", "DIR"}},
	}
	took := make([][]float64, len(all))
	const rounds, lines = 6, 1000
	for range rounds {
		for i := range all {
			took[i] = append(took[i], all[i].lines(filepath.Join(dir, "run"), lines)...)
		}
	}
	fmt.Printf("\nFrom write to visible in events.jsonl, tmpfs, %d single lines:\n\n| | p50 | p99 |\n|---|---|---|\n", rounds*lines)
	for i, c := range all {
		fmt.Printf("| %s | %s | %s |\n", c.name, seconds(quantile(took[i], 50)), seconds(quantile(took[i], 99)))
	}
}

func (c *contender) lines(dir string, count int) (took []float64) {
	check(os.RemoveAll(dir))
	check(os.MkdirAll(dir, 0o755))
	cmd := exec.Command(c.argv[0], inside(dir, c.argv[1:])...)
	in, err := cmd.StdinPipe()
	check(err)
	check(cmd.Start())
	line := []byte(`{"state":"ready","message":"agent is ready"}` + "\n")
	log := filepath.Join(dir, "events.jsonl")
	for seen := int64(0); len(took) < count; {
		time.Sleep(200 * time.Microsecond)
		begin := time.Now()
		_, err := in.Write(line)
		check(err)
		for size := seen; size == seen; {
			if st, err := os.Stat(log); err == nil {
				size = st.Size()
			}
			if size != seen {
				took = append(took, time.Since(begin).Seconds())
				seen = size
				break
			}
		}
	}
	check(in.Close())
	check(cmd.Wait())
	return took
}

// prints measures the time that a bash script needs to print a directive.
func prints(dir string) {
	const count = 50_000
	script := func(into string) []string {
		return []string{"bash", "-c", `exec 3> >(` + into + `); pid=$!; sleep 0.1; begin=${EPOCHREALTIME/./}
			for ((i = 0; i < ` + strconv.Itoa(count) + `; i++)); do printf 'STATE=ready MESSAGE=%q\n' "agent is ready" >&3; done
			echo $((${EPOCHREALTIME/./} - begin)); exec 3>&-; wait $pid`}
	}
	argv := [2][]string{script("exec " + tool("pika-cloud-lifecycle") + " ingest --state-dir " + dir + "/run"), script("exec cat >" + dir + "/file")}
	var took [2][]float64
	var ratios []float64
	for range 7 {
		for i, argv := range argv {
			text, err := exec.Command(argv[0], argv[1:]...).Output()
			check(err)
			us, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
			check(err)
			took[i] = append(took[i], us/1e6/count)
		}
		ratios = append(ratios, took[0][len(ratios)]/took[1][len(ratios)])
	}
	fmt.Printf("\nOne printf in bash, %d rounds of %d:\n\n| into | median | ratio of the first to this |\n|---|---|---|\n", len(ratios), count)
	fmt.Printf("| pika-cloud-lifecycle ingest | %s | |\n| cat > file | %s | %s |\n",
		seconds(quantile(took[0], 50)), seconds(quantile(took[1], 50)), share(quantile(ratios, 50)))
}

// growth measures an append to logs of different sizes.
func growth(dir string) {
	sizes := []int{1 << 10, 1 << 20, 1 << 30}
	event := contender{argv: ours("event", "--state-dir", "DIR", "--kind", "ready", "--message", "up")}
	stream := contender{argv: ours("ingest", "--max-events", "0", "--state-dir", "DIR"), feed: []string{"echo", "STATE=ready"}}
	laps := make([][2][]float64, len(sizes))
	for _, size := range sizes {
		log(filepath.Join(dir, fmt.Sprint(size)), size)
	}
	const rounds = 40
	for range rounds {
		for i, size := range sizes {
			for j, c := range []contender{event, stream} {
				laps[i][j] = append(laps[i][j], c.run(filepath.Join(dir, fmt.Sprint(size))).wall)
			}
		}
	}
	fmt.Printf("\nOne append to a log of this size, tmpfs, %d rounds:\n\n| log | event | ingest of one line |\n|---|---|---|\n", rounds)
	for i, size := range sizes {
		fmt.Printf("| %d KiB | %s | %s |\n", size>>10, seconds(quantile(laps[i][0], 50)), seconds(quantile(laps[i][1], 50)))
		check(os.RemoveAll(filepath.Join(dir, fmt.Sprint(size))))
	}
}

// log creates an event log of about the given size.
func log(dir string, size int) {
	check(os.MkdirAll(dir, 0o755))
	f, err := os.Create(filepath.Join(dir, "events.jsonl"))
	check(err)
	var block []byte
	for seq, written := 1, 0; written < size; seq++ {
		block = fmt.Appendf(block, `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00.123Z","message":"agent is ready","seq":%d}`+"\n", seq)
		if len(block) >= 1<<20 || written+len(block) >= size {
			n, err := f.Write(block)
			check(err)
			written, block = written+n, block[:0]
		}
	}
	check(f.Close())
}

// memory measures peak memory with time(1), because the kernel never reports less
// for a child of this process than this process itself used.
func memory(dir string) {
	ingest := strings.Join(ours("ingest", "--state-dir", "DIR"), " ")
	million := "cat " + input(dir, 1_000_000, 184, false)
	fmt.Printf("\nPeak memory:\n\n| | MiB |\n|---|---|\n")
	for _, m := range []struct{ name, feed, command string }{
		{"ingest, one directive", "echo STATE=ready", ingest},
		{"ingest, a million", million, ingest},
		{"ingest, ten million", "for i in 0 1 2 3 4 5 6 7 8 9; do " + million + "; done", ingest},
		{"ingest, 200 lines of 1 MiB", "for i in $(seq 200); do printf KIND=ready\\ MESSAGE=; head -c 1000000 /dev/zero | tr '\\0' x; echo; done", ingest},
		{"ingest, 200 lines of 1 MiB of escapes", "for i in $(seq 200); do printf KIND=ready\\ MESSAGE=; head -c 1000000 /dev/zero | tr '\\0' '\\1'; echo; done", ingest},
		{"ingest, a line of 1 GiB", "head -c 1073741824 /dev/zero", ingest + " || :"},
		{"ingest, a million rejected lines", "yes bad | head -1000000", ingest + " 2>&- || :"},
		{"Go hello world", "true", tool("hello")},
		{"C, a million", million, tool("limit") + " ingest DIR"},
		{"s6-log, a million", million, "s6-log t s1000000000 n2 DIR"},
		{"jq, a million", million, "jq -c ."},
	} {
		run := filepath.Join(dir, "run")
		check(os.RemoveAll(run))
		check(os.MkdirAll(run, 0o755))
		script := "(" + m.feed + `) | command time -o DIR/peak -f %M ` + m.command + " >DIR/out 2>DIR/err"
		check(exec.Command("bash", "-c", strings.ReplaceAll(script, "DIR", run)).Run())
		text, err := os.ReadFile(filepath.Join(run, "peak"))
		check(err)
		lines := strings.Fields(string(text)) // time may print the exit code first
		kib, err := strconv.ParseFloat(lines[len(lines)-1], 64)
		check(err)
		fmt.Printf("| %s | %.1f |\n", m.name, kib/1024)
		check(os.RemoveAll(run))
	}
}
